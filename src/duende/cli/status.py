"""`duende status`: where the daemons stand, and why, in words."""

from __future__ import annotations

import argparse
import sys

from duende.api.client import NoManager
from duende.cli import exits
from duende.cli.absence import remaining
from duende.cli.options import Stack, ask, parse, verb_parser
from duende.cli.output import STATUS_COLORS, Paint, duration_text, printable, table, write, write_json
from duende.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.api.client import Client

__all__ = ["detail", "main", "parser", "quoted", "with_names"]

_HEAD = ("NAME", "STATUS", "READY", "HEALTH", "PID", "UPTIME", "RESTARTS", "NEXT/EXIT")
_IN_TROUBLE = ("failed", "backoff")
_UP = ("running", "paused")


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "status",
        "Show where the daemons stand, and why. With names the exit code tells as well: 0 all running, 3 at least one "
        "is not, 4 no such daemon. Without a manager it tells which daemons are still alive; the exit code is 69 then. "
        "RESTARTS counts those by duende itself, not those by hand.",
        """
        status                   all daemons; those in trouble at length
        status web               one daemon at length
        status web --json        for programs
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)

    def question(client: Client) -> Any:
        return client.get(with_names("/v1/status", options.names))

    try:
        answer = ask(options, question)
    except NoManager as error:
        if not error.is_forbidden:
            _show_what_is_left(options)
        raise
    daemons = answer["daemons"]
    if options.json:
        write_json(answer)
    else:
        _show(answer, Paint(no_color=options.no_color), is_about_one=len(options.names) == len(daemons) == 1)
        if answer.get("failing_hooks"):
            from duende.cli.hooks import trouble  # here: only trouble costs it

            write("\n" + "\n".join(trouble(answer["failing_hooks"])))
    if options.names and not all(daemon["status"] in _UP for daemon in daemons):
        return exits.NOT_RUNNING
    return exits.OK


def _show_what_is_left(options: argparse.Namespace) -> None:
    """Without a manager: the daemons that it left, from its state and the kernel. The error is told besides."""
    stack = Stack.of(options)
    try:
        daemons = remaining(stack, options.names)
    except StateError:
        return  # the error that is told besides says it
    if options.json:
        write_json({"stack": stack.name, "manager": None, "daemons": daemons})
    elif any(daemon["alive"] for daemon in daemons):
        note = "" if stack.presence.manager_pid() else ", unsupervised"
        rows = [
            [
                daemon["name"],
                daemon["status"] + note if daemon["alive"] else "ended",
                str(daemon["pid"] or "-"),
                duration_text(daemon["uptime_s"]) if daemon["alive"] else "-",
            ]
            for daemon in daemons
            if daemon["alive"] or daemon["status"] is None  # others were over before, and may be configured no longer
        ]
        write(table(("NAME", "STATUS", "PID", "UPTIME"), rows, Paint(no_color=options.no_color)))
        sys.stdout.flush()  # before the error, where both go to one place


def with_names(path: str, names: list[str], **params: object) -> str:
    """The path with `name=` for each name, and other parameters that are not None."""
    pairs = [("name", name) for name in names]
    pairs += [(key, str(value)) for key, value in params.items() if value is not None]
    if not pairs:
        return path
    return path + "?" + "&".join(f"{key}={quoted(value)}" for key, value in pairs)


def quoted(text: str) -> str:
    """Percent-encode all but unreserved ASCII (RFC 3986, 2.3); urllib.parse would cost a twentieth of the run."""
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def _show(answer: dict[str, Any], paint: Paint, *, is_about_one: bool) -> None:
    daemons = answer["daemons"]
    if is_about_one:
        write(detail(daemons[0], paint))
        return
    if not daemons:
        write(f"stack {printable(answer['stack'])} has no daemons")
        return
    colors = [STATUS_COLORS.get(daemon["status"], "") for daemon in daemons]
    write(table(_HEAD, [_row(daemon) for daemon in daemons], paint, colors))
    for daemon in daemons:
        if daemon["status"] in _IN_TROUBLE:
            write("\n" + detail(daemon, paint))


def _row(daemon: dict[str, Any]) -> list[str]:
    health = daemon["health"]
    return [
        daemon["name"],
        daemon["status"],
        "yes" if daemon["ready"] else "no",
        "-" if health is None else "healthy" if health["healthy"] else "unhealthy",
        str(daemon["pid"] or "-"),
        duration_text(daemon["uptime_s"]) if daemon["uptime_s"] else "-",
        str(daemon["restarts"]),
        _next_or_exit(daemon),
    ]


def _next_or_exit(daemon: dict[str, Any]) -> str:
    if daemon["next_start_s"] is not None:
        return f"{_next_what(daemon)} in {duration_text(daemon['next_start_s'])}"
    if daemon["waiting_for"]:
        return "waits for " + ", ".join(daemon["waiting_for"])
    if daemon["status"] not in _UP and daemon["exit"] is not None:
        return str(daemon["exit"]["message"])
    return "-"


def detail(daemon: dict[str, Any], paint: Paint) -> str:
    """All about one daemon, as indented lines under its name."""
    name = paint(printable(daemon["name"]), "bold")
    status = paint.status(daemon["status"])
    why = f": {printable(daemon['message'])}" if daemon["message"] else ""
    lines = [f"{name} is {status}{why}"]
    lines += [f"  {label:<14} {printable(text)}" for label, text in _facts(daemon) if text]
    if daemon["log_tail"]:
        lines.append("  last log lines")
        lines += [f"    {paint('|', 'dim')} {printable(line)}" for line in daemon["log_tail"]]
    return "\n".join(lines)


def _facts(daemon: dict[str, Any]) -> list[tuple[str, str]]:
    uptime_s, next_start_s = daemon["uptime_s"], daemon["next_start_s"]
    return [
        ("process", f"{daemon['pid']}, up {duration_text(uptime_s or 0.0)}" if daemon["pid"] else ""),
        ("ready", ("yes" if daemon["ready"] else "no") if daemon["pid"] else ""),
        ("health", _health_text(daemon["health"])),
        ("last exit", _exit_text(daemon["exit"])),
        ("restarts", f"{daemon['restarts']}, by {daemon['restart_owner']}" if daemon["restarts"] else ""),
        (_next_what(daemon), f"in {duration_text(next_start_s)}" if next_start_s is not None else ""),
        ("waits for", ", ".join(daemon["waiting_for"])),
        ("not enforced", ", ".join(daemon["limits_not_enforced"])),
        ("platform", daemon["handle"] or daemon["platform"]),
        ("id", daemon["id"]),
    ]


def _next_what(daemon: dict[str, Any]) -> str:
    """A failed one is tried again; others run on a schedule."""
    return "next try" if daemon["status"] == "backoff" else "next run"


def _health_text(health: dict[str, Any] | None) -> str:
    if health is None:
        return ""
    if health["healthy"]:
        return f"healthy, answered in {health['latency_ms']:.3g} ms"
    return f"unhealthy: {health['reason']}"


def _exit_text(info: dict[str, Any] | None) -> str:
    """The message already has code or signal in words; the number is for those who grep."""
    if info is None:
        return ""
    numbers = [f"{what} {info[what]}" for what in ("code", "signal") if info[what] is not None]
    text = str(info["message"])
    if numbers and not any(number in text for number in numbers):
        text += f" ({', '.join(numbers)})"
    if info["reason"] not in ("error", "signal"):
        text = f"{info['reason']}: {text}"
    if info["at_s"]:
        import time  # built in: no file is read for it

        text += f", {duration_text(time.time() - info['at_s'])} ago"
    return text
