"""`duende up`: start the stack, here in the foreground or in the background; a manager that runs is asked to do it."""

from __future__ import annotations

import argparse
import os

from duende.api.client import ApiError, NoManager
from duende.cli.absence import explained
from duende.cli.failure import UsageError
from duende.cli.foreground import Foreground
from duende.cli.operation import add_waiting, post, tell_results
from duende.cli.options import Stack, parse, verb_parser
from duende.cli.output import write
from duende.errors import ManagerRunning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main", "parser"]

_MANAGER_BEGINS_S = 10.0  # from taking the stack's lock to listening; a fraction of a second on an idle machine
_MANAGER_ENDS_S = 60.0  # its daemons have their own stop deadlines
_LOOK_AGAIN_S = 0.05  # a socket that begins to listen tells nobody


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "up",
        "Start the stack. In the foreground its daemons' output is shown and Ctrl-C stops them; with -d it goes on in "
        "the background. Where a manager runs already, it is asked to start what is missing.",
        """
        up                                 in the foreground
        up -d                              in the background; done when all are ready
        up -d web --timeout 1m             only web and what it needs
        up --set daemon.web.log.keep=10    with a setting changed for this time
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all that start with the stack")
    made.add_argument("-d", "--detach", action="store_true", help="in the background")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments", help="a setting")
    made.add_argument("--no-restarter", action="store_false", dest="restarter",
                      help="with -d: nothing brings the manager back when it dies, or something else does")  # fmt: skip
    add_waiting(made)
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    stack = Stack.of(options)
    if _has_manager(stack):
        if options.assignments:
            raise UsageError("up: a manager runs already, so --set has no effect; `duende down` first")
        if not options.json:
            write(f"a manager of stack {stack.name} runs already; asking it to start what is missing")
        try:
            return _ask_to_start(options)
        except ApiError as error:
            if error.kind != "shutting-down" or not _ends_before_us(stack):
                raise
    if stack.presence.manager_pid():  # it holds the locks, but nobody can speak to it
        raise explained(stack, NoManager(stack.socket_path, "it does not listen"))
    config = _config_path(stack)
    overrides: dict[str, Any] = {}
    if options.assignments:
        from duende.config.layers import parse_overrides

        overrides = dict(parse_overrides(options.assignments))
    if not options.detach:
        from duende.api import host  # here: only this verb and `run` become a manager

        view = Foreground(no_color=options.no_color)
        return host.run_foreground(
            config, stack.name, overrides=overrides, names=options.names, show=view.show, say=view.say
        )
    from duende.api.background import start_background

    try:
        start_background(config, stack.name, overrides=overrides, names=options.names, restarter=options.restarter)
    except ManagerRunning:  # another `up`, or a restarter, was quicker: that manager is about to answer
        if not _has_manager(stack, within_s=_MANAGER_BEGINS_S):
            raise explained(stack, NoManager(stack.socket_path, "it does not listen")) from None
        return _ask_to_start(options)
    return _await_start(options)


def _ask_to_start(options: argparse.Namespace) -> int:
    """Have a manager that runs already start what is missing."""
    body: dict[str, Any] = {"wait": options.wait, "timeout_s": options.timeout}
    if options.names:
        body["names"] = options.names
    return tell_results(options, post(options, "/v1/start", body))


def _ends_before_us(stack: Stack) -> bool:
    """A manager that is being shut down: wait for its end."""
    import time

    deadline_s = time.monotonic() + _MANAGER_ENDS_S
    while _has_manager(stack):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def _await_start(options: argparse.Namespace) -> int:
    """A fresh manager starts everything by itself: only wait, and tell how it went."""
    body: dict[str, Any] = {"until": "settled", "timeout_s": options.timeout if options.wait else 0.0}
    if options.names:
        body["names"] = options.names
    answer = post(options, "/v1/wait", body)
    for result in answer["results"]:
        result["changed"] = result["status"] not in ("created", "stopped")
        if not options.wait and result.get("timed_out"):
            result.update(ok=True, timed_out=False, message="")
    return tell_results(options, answer)


def _has_manager(stack: Stack, within_s: float = 0.0) -> bool:
    """Whether a manager answers, now or within that time."""
    import time

    deadline_s = time.monotonic() + within_s
    while True:
        try:
            stack.client.get("/v1/version")
        except NoManager as error:
            if error.is_forbidden:
                raise
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_LOOK_AGAIN_S)
        else:
            return True


def _config_path(stack: Stack) -> str:
    """The file to start from; a stack that was only named must be the one found from here."""
    if stack.config is not None:
        return stack.config
    from duende.config.paths import find_config, stack_name_of

    found = find_config()
    if stack_name_of(found) != stack.name:
        here = os.path.relpath(found)
        raise UsageError(f"up: {here} is of stack {stack_name_of(found)}, not {stack.name}; name the file with -c FILE")
    return found
