"""`duende metrics`: what Python-class daemons say of themselves."""

from __future__ import annotations

import argparse
import json

from duende.cli import exits
from duende.cli.options import ask, parse, verb_parser
from duende.cli.output import printable, write, write_json
from duende.cli.status import with_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "metrics",
        "Ask the running Python-class daemons for their metrics (the `metrics` method). Commands have none.",
        """
        metrics             of all
        metrics web --json
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all")
    return made


def main(argv: list[str]) -> int:
    """Run the verb; 1 if a daemon did not answer."""
    options = parse(parser(), argv)

    def question(client: Client) -> Any:
        return client.get(with_names("/v1/metrics", options.names))

    answer = ask(options, question)
    if options.json:
        write_json(answer)
    else:
        for daemon in answer["daemons"]:
            for key, value in (daemon["metrics"] or {}).items():
                write(f"{printable(daemon['name'])}  {printable(str(key))}  {printable(json.dumps(value))}")
            if daemon["error"]:
                write(f"{printable(daemon['name'])}  failed: {printable(daemon['error'])}")
    return exits.FAILED if any(daemon["error"] for daemon in answer["daemons"]) else exits.OK
