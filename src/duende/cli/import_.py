"""`duende import`: a duende.toml from another tool's file, and every construct that can't be carried over.

Its file is not named `import.py`, since no `import` statement could name that.
"""

from __future__ import annotations

import argparse
import os
import sys

from duende.cli import exits
from duende.cli.failure import UsageError
from duende.cli.options import parse, verb_parser
from duende.cli.output import printable, write, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.config.importers.convert import Imported
    from duende.errors import Problem

__all__ = ["main", "parser"]

_KINDS = ("procfile", "supervisord", "pm2", "compose", "systemd")  # those of convert.KINDS, without its imports


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "import",
        "Write a duende.toml from files of other tools: Procfile, supervisord.conf, pm2's ecosystem.json, docker "
        "compose, systemd services. What can't be carried over is named on standard error, with file, line, key, why, "
        "and what to do instead. Exit code 6 if there is any such thing.",
        """
        import Procfile -o duende.toml
        import /etc/supervisor/supervisord.conf > duende.toml
        import web.service worker.service -o duende.toml
        import --from compose stack.yaml --strict
        """,
    )
    made.add_argument("files", nargs="+", metavar="FILE", help="what to read; several become one stack")
    made.add_argument("--from", choices=_KINDS, dest="kind", default="",
                      help="what they are; default: found out by name and content")  # fmt: skip
    made.add_argument("-o", "--output", metavar="FILE", help="write here; default: standard output")
    made.add_argument("--force", action="store_true", help="replace an existing file")
    made.add_argument("--strict", action="store_true", help="write nothing and fail if anything can't be carried over")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    output = options.output
    if output and not options.force and os.path.lexists(output):
        raise UsageError(f"import: {output} exists already; choose another name, or replace it with --force")
    from duende.config.importers.convert import import_files

    made = import_files(options.files, kind=options.kind, directory=os.path.dirname(output) if output else "")
    is_refused = options.strict and bool(made.dropped)
    if output and not is_refused:
        _write_file(output, made.text, may_replace=options.force)
    if options.json:
        write_json(_wire(made, output if not is_refused else None))
    else:
        _tell(made)
        if is_refused:
            sys.stderr.write(f"duende: import: nothing is written: {len(made.dropped)} not carried over (--strict)\n")
        elif not output:
            write(made.text)
    if is_refused:
        return exits.FAILED
    return exits.INCOMPLETE if made.dropped else exits.OK


def _tell(made: Imported) -> None:
    for problem in made.dropped:
        sys.stderr.write(f"not carried over: {printable(str(problem))}\n")
    for problem in made.notes:
        sys.stderr.write(f"note: {printable(str(problem))}\n")
    sys.stderr.flush()  # before the text, where both go to one place


def _write_file(path: str, text: str, *, may_replace: bool) -> None:
    """Whole or not at all, and never over a file that came meanwhile unless that may be replaced."""
    name = f"{path}.{os.getpid()}.tmp" if may_replace else path
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        if may_replace:
            os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _wire(made: Imported, output: str | None) -> dict[str, Any]:
    return {
        "output": output,
        "kinds": list(made.kinds),
        "daemons": list(made.names),
        "dropped": [_problem(problem) for problem in made.dropped],
        "notes": [_problem(problem) for problem in made.notes],
        "text": made.text,
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line or None,
        "key": problem.key,
        "reason": problem.reason,
        "hint": problem.hint,
    }
