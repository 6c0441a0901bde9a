"""`duende stop`: stop daemons."""

from __future__ import annotations

import argparse

from duende.cli.operation import add_names, add_waiting, operate, waiting
from duende.cli.options import parse, verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "stop",
        "Stop daemons; they stay stopped until they are started by name. Done when their processes are gone. "
        "What depends on them goes on.",
        """
        stop web              and wait until it is gone
        stop '*'              everything; the manager stays (`duende down` ends it too)
        stop web --no-wait    do not wait
        """,
    )
    add_names(made, verb="stop")
    add_waiting(made)
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    return operate(options, "/v1/stop", {"names": options.names, **waiting(options)})
