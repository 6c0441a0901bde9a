"""`duende signal`: send a signal to daemons."""

from __future__ import annotations

import argparse

from duende.cli.operation import operate
from duende.cli.options import parse, verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "signal",
        "Send a signal to daemons. STOP pauses and CONT resumes; after TERM or KILL the restart policy applies as ever "
        "(to end a daemon for good, `duende stop`).",
        """
        signal HUP web           the leading process of web gets SIGHUP
        signal USR1 'worker.*'
        signal --tree STOP web   every process of web
        """,
    )
    made.add_argument("--tree", action="store_true", help="every process of the daemon, not only the leading one")
    made.add_argument("signal", metavar="SIGNAL", help="HUP, SIGHUP or 1")
    made.add_argument("names", nargs="+", metavar="NAME", help="daemons: names or globs; '*' means all")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    return operate(options, "/v1/signal", {"names": options.names, "signal": options.signal, "tree": options.tree})
