"""`duende reload`: ask daemons to read their configuration again."""

from __future__ import annotations

import argparse

from duende.cli.operation import add_names, operate
from duende.cli.options import parse, verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "reload",
        "Ask daemons to read their own configuration again: each gets its reload_signal (default SIGHUP).",
        """
        reload web
        reload '*'
        """,
    )
    add_names(made, verb="reload")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    return operate(options, "/v1/reload", {"names": options.names})
