"""`duende explain NAME`: why a daemon is as it is, what led there, what comes next, and what one can do."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import ask, parse, verb_parser
from duende.cli.output import Paint, duration_text, printable, write, write_json
from duende.cli.status import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "explain",
        "Explain one daemon: why it is in its state, what it waits for and why that is not there, what led here, what "
        "will happen next and when, and what you can do.",
        """
        explain web
        explain worker.2 --json
        """,
    )
    made.add_argument("name", metavar="NAME", help="one daemon")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)

    def question(client: Client) -> Any:
        return client.get(f"/v1/daemons/{quoted(options.name)}/explain")

    answer = ask(options, question)
    if options.json:
        write_json(answer)
    else:
        write("\n".join(_lines(answer, Paint(no_color=options.no_color))))
    return exits.OK


def _lines(answer: dict[str, Any], paint: Paint) -> Iterator[str]:
    name = paint(printable(answer["name"]), "bold")
    yield f"{name} is {paint.status(answer['status'])}: {printable(answer['why'])}"
    if answer["waits_for"]:
        yield from _section("what it waits for", paint)
        yield from _awaited(answer["waits_for"], paint, "  ")
    if answer["history"]:
        yield from _section("what led here", paint)
        yield from _columns([(event["time"], _event_text(event, paint)) for event in answer["history"]])
    yield from _section("what comes next", paint)
    yield from _columns([(_when(coming), _what(coming)) for coming in answer["next"]])
    if answer["can_do"]:
        yield from _section("what you can do", paint)
        yield from _columns([(advice["command"], printable(advice["why"])) for advice in answer["can_do"]])


def _section(title: str, paint: Paint) -> Iterator[str]:
    yield ""
    yield paint(title, "bold")


def _awaited(waits_for: list[dict[str, Any]], paint: Paint, indent: str) -> Iterator[str]:
    for one in waits_for:
        status = paint.status(one["status"]) if one["status"] else "unknown"
        yield f"{indent}{printable(one['name'])} ({one['condition']}) is {status}: {printable(one['why'])}"
        yield from _awaited(one["waits_for"], paint, indent + "  ")


def _event_text(event: dict[str, Any], paint: Paint) -> str:
    what = paint.status(event["status"]) if event["kind"] == "status" else paint(printable(event["kind"]), "bold")
    message = f": {printable(event['message'])}" if event["message"] else ""
    because = f" ({printable(event['because'])})" if event["because"] else ""
    return f"{what}{message}{because}"


def _when(coming: dict[str, Any]) -> str:
    return "" if coming["in_s"] is None else f"in {duration_text(coming['in_s'])}"


def _what(coming: dict[str, Any]) -> str:
    who = f"{coming['daemon']}: " if coming["daemon"] else ""
    condition = f"{coming['condition']}: " if coming["condition"] else ""
    return printable(f"{who}{condition}{coming['what']}")


def _columns(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(left) for left, _ in rows)
    for left, right in rows:
        yield f"  {left.ljust(width)}  {right}" if width else f"  {right}"
