"""`duende hooks`: who is told what happens, and whether that works."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import ask, parse, verb_parser
from duende.cli.output import Paint, duration_text, printable, table, write, write_json
from duende.cli.status import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser", "trouble"]

_HEAD = ("HOOK", "STATE", "ON", "ACTION", "DELIVERED", "WAITING", "LAST")


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "hooks",
        "Show the hooks and what became of their deliveries, also those of `on_failure`; or send one a test event, "
        "past its queue. The exit code of a test is 1 when it was not delivered.",
        """
        hooks                    all, with their last delivery and last error
        hooks test pager         send pager a test event now
        """,
        usage="duende hooks [test NAME]",
    )
    made.add_argument("act", nargs="?", choices=("test",), help="send a test event")
    made.add_argument("name", nargs="?", metavar="NAME", help="the hook to test")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    made = parser()
    options = parse(made, argv)
    if options.act is None:
        return _show(options)
    if options.name is None:
        made.error("which hook? duende hooks test NAME")
    path = f"/v1/hooks/{quoted(options.name)}/test"

    def question(client: Client) -> Any:
        return client.post(path, {})

    answer = ask(options, question)
    if options.json:
        write_json(answer)
    else:
        mark = "ok" if answer["ok"] else "failed"
        color = "green" if answer["ok"] else "red"
        paint = Paint(no_color=options.no_color)
        write(f"{printable(answer['name'])}  {paint(mark, color)}  {printable(answer['message'])}")
    return exits.OK if answer["ok"] else exits.FAILED


def _show(options: argparse.Namespace) -> int:
    def question(client: Client) -> Any:
        return client.get("/v1/hooks")

    answer = ask(options, question)
    hooks = answer["hooks"]
    if options.json:
        write_json(answer)
    elif not hooks:
        write("this stack has no hooks")
    else:
        paint = Paint(no_color=options.no_color)
        colors = ["red" if hook["failing"] else "" for hook in hooks]
        write(table(_HEAD, [_row(hook) for hook in hooks], paint, colors))
        for line in trouble(hooks):
            write(line)
    return exits.OK


def _row(hook: dict[str, Any]) -> list[str]:
    last = max((hook["last_delivery"], hook["last_error"]), key=lambda entry: entry["time"] if entry else "")
    return [
        hook["name"],
        "failing" if hook["failing"] else "ok",
        ",".join(hook["on"]) + (f" of {','.join(hook['daemons'])}" if hook["daemons"] else ""),
        f"{hook['action']} {hook['target']}",
        str(hook["delivered"]),
        str(hook["undelivered"]),
        f"event {last['seq']}: {last['text']}" if last else "-",
    ]


def trouble(hooks: list[dict[str, Any]]) -> list[str]:
    """A sentence for each hook that is failing."""
    lines = []
    for hook in hooks:
        if not hook["failing"]:
            continue
        error = hook["last_error"]["text"] if hook["last_error"] else "not delivered"
        waits = f"{hook['undelivered']} undelivered, {hook['given_up']} given up"
        next_try_s = hook["next_try_s"]
        then = f", next try in {duration_text(next_try_s)}" if next_try_s is not None else ""
        lines.append(printable(f"hook {hook['name']} is failing: {error} ({waits}{then})"))
    return lines
