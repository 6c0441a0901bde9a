"""`duende wait`: wait until daemons have reached a state."""

from __future__ import annotations

import argparse

from duende.cli.operation import add_names, operate
from duende.cli.options import duration_s, parse, verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "wait",
        "Wait until all the daemons have reached a state, or can't reach it any more (exit code 1), or the time is "
        "over (exit code 5).",
        """
        wait web                          until it is ready
        wait '*' --timeout 1m             until all are ready, for at most a minute
        wait migrate --for exited
        """,
    )
    add_names(made, verb="wait for")
    states = ("ready", "running", "stopped", "healthy", "exited")
    made.add_argument("--for", dest="until", choices=states, default="ready", help="the state (default: ready)")
    made.add_argument("--timeout", type=duration_s, metavar="TIME", help="how long to wait, as in 30s or 2m")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    body = {"names": options.names, "until": options.until, "timeout_s": options.timeout}
    return operate(options, "/v1/wait", body)
