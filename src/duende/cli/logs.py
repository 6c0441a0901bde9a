"""`duende logs`: what daemons wrote to their outputs."""

from __future__ import annotations

import argparse
import json
import sys

from duende.cli import exits
from duende.cli.following import streams
from duende.cli.lines import LinePrinter
from duende.cli.options import ask, duration_s, parse, verb_parser
from duende.cli.output import Paint, printable, write
from duende.cli.status import quoted, with_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser"]

_NOTHING_READ = ">:0:0:0"  # a log without a place is read from its beginning, and a request has 64 KiB for all of them
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
    made.add_argument("-f", "--follow", action="store_true",
                      help="go on with new lines, until Ctrl-C, also under the next manager")  # fmt: skip
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

    def whole(client: Client) -> None:
        width = _names_width(client, options)
        printer = LinePrinter(Paint(no_color=options.no_color), with_name=not options.no_prefix, width=width)
        if options.follow:
            _follow(client, options, printer)
        else:
            for line in client.stream(_path(options)):
                _show(line, options, printer)

    ask(options, whole)
    return exits.OK


def _path(options: argparse.Namespace, places: Sequence[str] = ()) -> str:
    lines = options.lines
    if lines is None and options.follow and options.since is None:
        lines = _LINES_DEFAULT
    since = None if options.since is None else repr(options.since)
    follow = 1 if options.follow else 0
    path = with_names("/v1/logs", options.names, lines=lines, since=since, follow=follow, places=follow or None)
    if options.stdout != options.stderr:
        path += f"&stream={'stdout' if options.stdout else 'stderr'}"
    begun = [place for place in places if not place.endswith(_NOTHING_READ)] or places[:1]
    return path + "".join(f"&from={quoted(place)}" for place in begun)


def _follow(client: Client, options: argparse.Namespace, printer: LinePrinter) -> None:
    """Show what there is and what comes, from one manager after the other, each line once.

    Lines are shown when the stream has told the places behind them. What came without that before a manager died is
    asked for again.
    """
    places: dict[str, str] = {}
    for lines in streams(client, lambda: _path(options, list(places.values()))):
        held: list[bytes] = []
        for line in lines:
            if not line.startswith(b'{"places":'):
                held.append(line)
                continue
            for each in held:
                _show(each, options, printer)
            sys.stdout.flush()
            held.clear()
            places.update((_log_of(place), place) for place in json.loads(line)["places"])


def _log_of(place: str) -> str:
    """Which log a place is in; the rest of it is for the manager."""
    return place.replace("=", ">", 1).partition(">")[0]


def _names_width(client: Client, options: argparse.Namespace) -> int:
    """The longest name, so that prefixes line up; asked only where a prefix is shown."""
    if options.json or options.raw or options.no_prefix:
        return 0
    daemons = client.get(with_names("/v1/status", options.names))["daemons"]
    return max((len(printable(daemon["name"])) for daemon in daemons), default=0)


def _show(line: bytes, options: argparse.Namespace, printer: LinePrinter) -> None:
    if not line:
        return  # the stream's sign of life
    if options.json:
        write(line.decode("utf-8", "replace"))
        return
    record = json.loads(line)
    if options.raw:
        sys.stdout.buffer.write(_message(record) + (b"" if record.get("partial") else b"\n"))
    else:
        time = (record["time"] or "-") if options.timestamps else ""
        write(printer.text(record["daemon"], _message(record), record.get("priority"), time))


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
