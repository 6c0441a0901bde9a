"""What to say where no manager answers: who may be coming, which daemons live without one, and what to do."""

from __future__ import annotations

from duende.api.client import NoManager
from duende.api.presence import RETURN_MAX_S
from duende.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.cli.options import Stack

__all__ = ["explained", "living", "remaining"]


def remaining(stack: Stack, names: list[str] | None = None) -> list[dict[str, Any]]:
    """The daemons of a stack without a manager, as far as they are known. StateError when they can't be read."""
    from duende.api.remains import remains  # here: the database's module is paid only by who needs it

    return remains(stack.paths, names or (), is_supervised=bool(stack.presence.manager_pid()))


def living(stack: Stack) -> list[str]:
    """The names of those that are alive."""
    return [daemon["name"] for daemon in remaining(stack) if daemon["alive"]]


def explained(stack: Stack, error: NoManager) -> NoManager:
    """The same error in the words of somebody who thinks in stacks: what is, and what to do."""
    told = NoManager(stack.socket_path, "", is_forbidden=error.is_forbidden)
    told.args = (_forbidden(stack) if error.is_forbidden else _absent(stack),)
    return told


def _forbidden(stack: Stack) -> str:
    return f"this user may not speak to the manager for stack {stack.name} (socket {stack.socket_path})"


def _absent(stack: Stack) -> str:
    presence = stack.presence
    if pid := presence.manager_pid():
        what = f"the manager of stack {stack.name} (pid {pid}) runs but does not listen at {stack.socket_path}"
        return f"{what}: {_cure(pid)}"
    text = f"no manager is running for stack {stack.name} (socket {stack.socket_path})"
    if presence.has_restarter():
        log = f"{stack.paths.state_dir}/manager.log"
        text += f"; its restarter has not brought one back within {RETURN_MAX_S:g} s, {log} says why"
    try:
        alive = living(stack)
    except StateError as problem:
        return f"{text}; {problem}"
    if not alive:
        return f"{text}; start it with `duende up`"
    what, them = ("1 daemon is", "it") if len(alive) == 1 else (f"{len(alive)} daemons are", "them")
    cure = f"`duende up -d` takes {them} over, `duende down` ends {them}"
    return f"{text}, but {what} still alive and nothing supervises {them} now: {cure}"


def _cure(pid: int) -> str:
    """Only a manager in the background listens anew at SIGHUP; it would end one in the foreground."""
    stop = f"`kill {pid}` stops it and its daemons in order"
    if _catches_hangup(pid):
        return f"was the socket removed? `kill -HUP {pid}` makes it again; {stop}"
    return f"was the socket removed? {stop}"


def _catches_hangup(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            caught = next((line.split()[1] for line in file if line.startswith("SigCgt:")), "0")
    except OSError:
        return False
    return bool(int(caught, 16) & 1)  # bit 0 is signal 1, SIGHUP (proc_pid_status(5))
