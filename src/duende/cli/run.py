"""`duende run`: one command or class under supervision, in the foreground, without a file."""

from __future__ import annotations

import argparse

from duende.cli.exec import split_command
from duende.cli.failure import UsageError
from duende.cli.foreground import Foreground
from duende.cli.options import parse, verb_parser

__all__ = ["main", "parser"]

_POLICIES = ("never", "on-failure", "always", "unless-stopped")  # max-retries needs a number, so a file


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "run",
        "Run one command, or a Daemon class, under supervision in the foreground: its output is shown, it is started "
        "again as --restart says, Ctrl-C stops it.",
        """
        run -- python -m http.server
        run --restart always --env PORT=8080 -- ./server --verbose
        run shop.web:Web --set settings.port=8080
        """,
        usage="duende run [options] (-- COMMAND [ARGUMENT ...] | MODULE:CLASS)",
    )
    made.add_argument("target", nargs="?", metavar="MODULE:CLASS", help="a Daemon class, or path.py:Class")
    made.add_argument("--name", metavar="NAME", help="its name (default: from the command or the class)")
    made.add_argument("--restart", choices=_POLICIES, help="when it is started again (default: on-failure)")
    made.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="an environment variable")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
                      help="any setting of a daemon, as in duende.toml")  # fmt: skip
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    words, command = split_command(argv)
    options = parse(parser(), words)
    if bool(command) == bool(options.target):
        raise UsageError("run: give either a command after `--` or one MODULE:CLASS")
    if options.target and ":" not in options.target:
        raise UsageError(f"run: {options.target!r} is not MODULE:CLASS; a command goes behind `--`")
    from duende.api import host  # here: only this verb and `up` become a manager

    view = Foreground(no_color=options.no_color)
    return host.run_command(
        command or None,
        options.target,
        name=options.name,
        restart=options.restart,
        env=_pairs("--env", options.env),
        settings=_pairs("--set", options.assignments),
        show=view.show,
        say=view.say,
    )


def _pairs(flag: str, texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"run: {flag} {text!r}: expected KEY=VALUE")
        pairs[key] = value
    return pairs
