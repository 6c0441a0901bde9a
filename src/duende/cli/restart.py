"""`duende restart`: stop and start daemons."""

from __future__ import annotations

import argparse

from duende.cli.operation import add_names, add_waiting, operate, waiting
from duende.cli.options import parse, verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "restart",
        "Stop and start daemons; what is stopped or failed is started. Done when they are ready again.",
        """
        restart web
        restart 'worker.*' --timeout 1m
        """,
    )
    add_names(made, verb="restart")
    add_waiting(made)
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    return operate(options, "/v1/restart", {"names": options.names, **waiting(options)})
