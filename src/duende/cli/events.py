"""`duende events`: what happened to the daemons, and why."""

from __future__ import annotations

import argparse
import json
import sys

from duende.cli import exits
from duende.cli.following import streams
from duende.cli.options import ask, parse, verb_parser
from duende.cli.output import Paint, printable, write
from duende.cli.status import with_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser"]

_LAST_DEFAULT = 10  # as tail(1), when following; without -f everything that is kept


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "events",
        "Show what happened: starts, exits, restarts, health, and what each of them was caused by.",
        """
        events                        all that is kept
        events -f web                 the last ones of web, and what comes
        events --since-seq 41 --json  what came after number 41, one JSON document a line
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all")
    made.add_argument("-f", "--follow", action="store_true",
                      help="go on with what happens, until Ctrl-C, also under the next manager")  # fmt: skip
    made.add_argument("-n", "--last", type=_number, metavar="N", help="only the last N of all (with -f: 10)")
    made.add_argument("--since-seq", type=_number, metavar="SEQ", help="only what came after this sequence number")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    last = options.last
    if last is None and options.follow and options.since_seq is None:
        last = _LAST_DEFAULT
    path = with_names(
        "/v1/events", options.names, follow=1 if options.follow else 0, after=options.since_seq, last=last
    )

    def whole(client: Client) -> None:
        if options.follow:
            _follow(client, path, options)
        else:
            _show(client.stream(path), options)

    ask(options, whole)
    return exits.OK


def _follow(client: Client, path: str, options: argparse.Namespace) -> None:
    """Show the past and what comes, from one manager after the other: the numbers go on."""
    # The newest number before we ask: from there on, if a successor has to be asked before anything was shown.
    newest = [line for line in client.stream("/v1/events?follow=0&last=1") if line.startswith(b"id: ")]
    after = int(newest[-1][4:]) if newest else 0
    paths = [path]
    for lines in streams(client, paths.pop):
        after = max(after, _show(lines, options))
        paths.append(with_names("/v1/events", options.names, follow=1, after=after))


def _show(lines: Iterator[bytes], options: argparse.Namespace) -> int:
    """Returns the number of the last one shown; 0 if there was none."""
    paint = Paint(no_color=options.no_color)
    last = 0
    for line in lines:
        if not line.startswith(b"data: "):
            continue  # the id and the kind are in the data too; comments are signs of life
        text = line[6:].decode("utf-8", "replace")
        event = json.loads(text)
        write(text if options.json else _text(event, paint))
        last = event["seq"]
        if options.follow:
            sys.stdout.flush()
    return last


def _text(event: dict[str, Any], paint: Paint) -> str:
    kind = paint(printable(event["kind"]), "bold")
    who = paint(printable(event["daemon"] or "-"), "cyan")
    status = paint.status(event["status"]) if event["status"] else ""
    cause = f"({printable(event['cause'])})" if event["cause"] else ""
    parts = [str(event["seq"]), event["time"], who, kind, status, printable(event["message"]), cause]
    return "  ".join(part for part in parts if part)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)
