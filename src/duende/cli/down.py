"""`duende down`: stop the daemons and end the manager."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

from duende.api.client import ManagerSilent, NoManager
from duende.cli import exits
from duende.cli.absence import living, remaining
from duende.cli.failure import UsageError
from duende.cli.operation import add_waiting
from duende.cli.options import Stack, ask, parse, verb_parser
from duende.cli.output import write, write_json
from duende.config.paths import CONFIG_NAME
from duende.errors import ManagerRunning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from duende.api.client import Client

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "down",
        "Stop all daemons, in the reverse of the order they were started in, and end the manager. Where that "
        "has died and its daemons have not, one is started to do that.",
        """
        down                  and wait until the manager is gone
        down --leave-daemons  end the manager only; the next `duende up` takes the daemons over
        """,
    )
    made.add_argument("--leave-daemons", action="store_true", help="let the daemons live on")
    add_waiting(made)
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    try:
        code: int = ask(options, lambda client: _end(client, options))
    except NoManager as error:
        stack = Stack.of(options)
        if error.is_forbidden or options.leave_daemons or not _can_be_ended(stack):
            raise
        code = _end_what_is_left(stack, options)
    if options.json:
        write_json({"ok": code == exits.OK, "waited": options.wait})
    elif code == exits.TIMED_OUT:
        write(f"the manager still stops its daemons after {options.timeout:g} s; it goes on with that")
    else:
        write("the manager has ended" if options.wait else "the manager was told to end")
    return code


def _end(client: Client, options: argparse.Namespace) -> int:
    """Have the manager end, and wait for that as long as is asked for."""
    body = {"stop_daemons": not options.leave_daemons}
    if not options.wait:
        client.send_only("/v1/shutdown", body)
        return exits.OK
    deadline_s = None if options.timeout is None else time.monotonic() + options.timeout
    restarter_pid = _restarter_of(client.get("/v1/version")["pid"])
    try:
        client.post("/v1/shutdown", body, timeout_s=options.timeout)
    except ManagerSilent:
        # Its end may cut the answer off, so what counts is whether it is gone. One that only is slow is told below.
        if deadline_s is None and not _is_gone(client.manager_pid, 1.0):
            raise
    left_s = None if deadline_s is None else max(deadline_s - time.monotonic(), 0.0)
    if not _is_gone(client.manager_pid, left_s):
        return exits.TIMED_OUT
    # A restarter that stays has seen the manager die, and has another go on with the stop.
    return exits.OK if _is_gone(restarter_pid, left_s) else exits.TIMED_OUT


def _end_what_is_left(stack: Stack, options: argparse.Namespace) -> int:
    """Start a manager that takes over, stops all by their own ladders, and ends."""
    if not options.json:
        write("no manager is running, but something of the stack is: starting a manager to end it")
        sys.stdout.flush()
    from duende.api.background import start_background  # here: only this rare case starts one

    with contextlib.suppress(ManagerRunning):  # a restarter was quicker: its manager is asked, as always
        start_background(_file_of(stack), stack.name, overrides={}, names=(), ending=True)
    try:
        return _end(stack.client, options)
    except (NoManager, ManagerSilent):  # it has ended before we could ask
        if stack.presence.is_expected() or living(stack):
            raise
        return exits.OK


def _can_be_ended(stack: Stack) -> bool:
    """Whether no manager has the stack, though a restarter or daemons live, or a keeper holds how they ended."""
    if stack.presence.manager_pid():
        return False
    return stack.presence.has_restarter() or any(one["alive"] or one["status"] is None for one in remaining(stack))


def _file_of(stack: Stack) -> str:
    """The file of a stack without a manager: it has the stop signals and the time that each may take."""
    if stack.config is not None:
        return stack.config
    try:
        return os.readlink(f"{stack.paths.state_dir}/{CONFIG_NAME}")
    except OSError as error:
        text = f"down: no manager runs, and the file of stack {stack.name} is not known ({error.strerror})"
        raise UsageError(f"{text}; name it with -c FILE") from None


def _restarter_of(manager_pid: int) -> int:
    """The process that would bring the manager back, and ends with it; 0 if there is none."""
    try:
        with open(f"/proc/{manager_pid}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])  # proc_pid_stat(5)
        with open(f"/proc/{parent}/comm", "rb") as file:
            return parent if file.read() == b"duende-restart\n" else 0
    except OSError:
        return 0


def _is_gone(pid: int, within_s: float | None) -> bool:
    """Wait for the end of the manager; at once true where the kernel can't tell us (no pidfd)."""
    if not pid or not hasattr(os, "pidfd_open"):
        return True
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        return True  # a kernel before 5.3, or a sandbox: its answer must do
    try:
        import select

        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if within_s is None else within_s * 1000.0))
    finally:
        os.close(pidfd)
