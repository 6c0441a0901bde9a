"""What start, stop, restart and their like share: names, waiting, and how results are told."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import ask, duration_s
from duende.cli.output import Paint, printable, write, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.api.client import Client

__all__ = ["add_names", "add_waiting", "operate", "post", "tell_results", "waiting"]

# The manager ends a wait at its deadline; we allow this much more for the answer to come before we call it silent.
_ANSWER_SLACK_S = 10.0


def add_names(parser: argparse.ArgumentParser, *, verb: str) -> None:
    """One or more NAMEs."""
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"daemons to {verb}: names or globs; '*' means all")


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """--wait/--no-wait and --timeout."""
    done = argparse.BooleanOptionalAction
    parser.add_argument("--wait", action=done, default=True, help="answer only when it is done; the default")
    parser.add_argument("--timeout", type=duration_s, metavar="TIME", help="how long to wait, as in 30s or 2m")


def waiting(options: argparse.Namespace) -> dict[str, Any]:
    """The request's part that says whether to wait."""
    return {"wait": options.wait, "timeout_s": options.timeout}


def post(options: argparse.Namespace, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask for an operation and hear how it went."""
    timeout_s = body.get("timeout_s")
    patience_s = None if timeout_s is None else timeout_s + _ANSWER_SLACK_S

    def question(client: Client) -> Any:
        return client.post(path, body, timeout_s=patience_s, is_question=path == "/v1/wait")

    answer: dict[str, Any] = ask(options, question)
    return answer


def operate(options: argparse.Namespace, path: str, body: dict[str, Any]) -> int:
    """Ask for an operation, tell its results, return the exit code."""
    return tell_results(options, post(options, path, body))


def tell_results(options: argparse.Namespace, answer: dict[str, Any]) -> int:
    """Print one line per daemon, or the answer as JSON; the exit code is that of the worst."""
    results = answer["results"]
    if options.json:
        write_json(answer)
    else:
        paint = Paint(no_color=options.no_color)
        width = max((len(result["name"]) for result in results), default=0)
        for result in results:
            write(_line(result, width, paint))
    failed = [result for result in results if not result["ok"]]
    if not failed:
        return exits.OK
    return exits.TIMED_OUT if all(result.get("timed_out") for result in failed) else exits.FAILED


def _line(result: dict[str, Any], width: int, paint: Paint) -> str:
    mark = paint("ok", "green") if result["ok"] else paint("failed", "red")
    if result.get("timed_out"):
        mark = paint("timed out", "yellow")
    elif result["ok"] and not result["changed"]:
        mark = "unchanged"
    text = f": {printable(result['message'])}" if result["message"] else ""
    return f"{printable(result['name']).ljust(width)}  {mark}  {result['status']}{text}"
