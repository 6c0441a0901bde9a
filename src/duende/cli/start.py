"""`duende start`: start daemons, and what they need first."""

from __future__ import annotations

import argparse

from duende.cli.operation import add_names, add_waiting, operate, waiting
from duende.cli.options import parse, verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "start",
        "Start daemons, and first the daemons they need. Done when they are ready. One that is named and runs "
        "already is an error; of a pattern only what does not run is started.",
        """
        start web                        and wait until it is ready
        start 'worker.*' --timeout 30s   some by a pattern, for at most 30 seconds
        start web --no-wait              do not wait
        """,
    )
    add_names(made, verb="start")
    add_waiting(made)
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    return operate(options, "/v1/start", {"names": options.names, "refuse_running": True, **waiting(options)})
