"""`duende logs`: what daemons wrote to their outputs."""

from __future__ import annotations

import argparse
import json
import sys

from duende.cli import exits
from duende.cli.lines import LinePrinter
from duende.cli.options import ask, duration_s, parse, verb_parser
from duende.cli.output import Paint, printable, write
from duende.cli.status import with_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser"]

_LINES_DEFAULT = 10  # as tail(1), when following; without -f everything that is kept


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "logs",
        "Show what daemons wrote. Control characters are shown as escapes, so that a log can't take over the terminal.",
        """
        logs web                   all that is kept
        logs -f                    the last lines of all daemons, and what comes
        logs -n 100 --stderr web   the last 100 lines of its standard error
        logs --since 10m 'w*'      of the last ten minutes
        logs --raw web > dump      the bytes as they were written
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all")
    made.add_argument("-f", "--follow", action="store_true", help="go on with new lines, until Ctrl-C")
    made.add_argument("-n", "--lines", type=_count, metavar="N", help="only the last N lines (with -f: 10)")
    made.add_argument("--since", type=_since_s, metavar="TIME", help="a duration (10m) or an RFC 3339 time")
    made.add_argument("--stdout", action="store_true", help="only standard output")
    made.add_argument("--stderr", action="store_true", help="only standard error")
    made.add_argument("-t", "--timestamps", action="store_true", help="with the time of each line")
    made.add_argument("--raw", action="store_true", help="unchanged bytes, without prefix")
    made.add_argument("--no-prefix", action="store_true", help="without the daemon's name")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    path = with_names(
        "/v1/logs",
        options.names,
        lines=_LINES_DEFAULT if options.lines is None and options.follow and options.since is None else options.lines,
        since=None if options.since is None else repr(options.since),
        follow=1 if options.follow else 0,
    )
    if options.stdout != options.stderr:
        path += f"&stream={'stdout' if options.stdout else 'stderr'}"

    def question(client: Client) -> Any:
        return _names_width(client, options), client.stream(path)

    def whole(client: Client) -> None:
        width, lines = question(client)
        _show(lines, options, width)

    ask(options, whole)
    return exits.OK


def _names_width(client: Client, options: argparse.Namespace) -> int:
    """The longest name, so that prefixes line up; asked only where a prefix is shown."""
    if options.json or options.raw or options.no_prefix:
        return 0
    daemons = client.get(with_names("/v1/status", options.names))["daemons"]
    return max((len(printable(daemon["name"])) for daemon in daemons), default=0)


def _show(lines: Iterator[bytes], options: argparse.Namespace, width: int) -> None:
    printer = LinePrinter(Paint(no_color=options.no_color), with_name=not options.no_prefix, width=width)
    for line in lines:
        if not line:
            continue  # the stream's sign of life
        if options.json:
            write(line.decode("utf-8", "replace"))
        elif options.raw:
            record = json.loads(line)
            ending = b"" if record.get("partial") else b"\n"
            sys.stdout.buffer.write(_message(record) + ending)
        else:
            record = json.loads(line)
            time = (record["time"] or "-") if options.timestamps else ""
            write(printer.text(record["daemon"], _message(record), record.get("priority"), time))
        if options.follow:
            sys.stdout.flush()


def _message(record: dict[str, Any]) -> bytes:
    if "message" in record:
        return str(record["message"]).encode("utf-8", "surrogateescape")
    import binascii  # built in; base64 imports more

    return binascii.a2b_base64(record["message_base64"])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def _since_s(text: str) -> float:
    """Unix time of a moment, or of so long ago."""
    import time

    if "T" in text or text.count("-") == 2:
        from datetime import datetime

        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-01-31T12:00:00Z") from None
    return time.time() - duration_s(text)
