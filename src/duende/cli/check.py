"""`duende check`: all that is wrong with a configuration, at once."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import parse, verb_parser
from duende.cli.output import Paint, printable, write, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.errors import Problem

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "check",
        "Check the configuration and say all that is wrong with it, with file, line and key: what is misspelt, what "
        "can't be meant, and what this machine lacks (programs, users, directories). Exit code 2 if there is an error.",
        """
        check
        check shop/duende.toml --json
        check --set daemon.web.nice=99
        """,
    )
    made.add_argument("file", nargs="?", metavar="FILE", help="default: as for all verbs")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments", help="a setting")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    from duende.config.check import check_file
    from duende.config.layers import parse_overrides
    from duende.config.paths import find_config

    path = options.file or options.config or find_config()
    findings = check_file(path, overrides=parse_overrides(options.assignments))
    if options.json:
        write_json({
            "file": path,
            "ok": not findings.errors,
            "errors": [_wire(problem) for problem in findings.errors],
            "warnings": [_wire(problem) for problem in findings.warnings],
        })  # fmt: skip
    else:
        paint = Paint(no_color=options.no_color)
        for problem in findings.errors:
            write(f"{paint('error', 'red')}: {printable(str(problem))}")
        for problem in findings.warnings:
            write(f"{paint('warning', 'yellow')}: {printable(str(problem))}")
        if not findings.errors:
            write(f"{printable(str(path))}: {paint('ok', 'green')}")
    return exits.USAGE if findings.errors else exits.OK


def _wire(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line or None,
        "key": problem.key,
        "reason": problem.reason,
        "hint": problem.hint,
    }
