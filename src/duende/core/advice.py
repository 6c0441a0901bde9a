"""What a user can do about a daemon where it stands, as commands. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from duende.core.state import DaemonState
from duende.model.condition import Condition
from duende.model.health import HealthStatus
from duende.model.status import DaemonStatus, FailureReason

__all__ = ["Advice", "advice_for"]


@dataclass(frozen=True, slots=True)
class Advice:
    """A command, and what it is good for."""

    command: str
    why: str

    def to_json(self) -> dict[str, str]:
        """The wire form."""
        return {"command": self.command, "why": self.why}


def advice_for(
    name: str, state: DaemonState, health: HealthStatus | None = None, awaited: Condition | None = None
) -> tuple[Advice, ...]:
    """The most useful first; none for a daemon that is well. `awaited` is what somebody else waits for in it."""
    start = Advice(f"duende start {name}", "start it")
    logs = Advice(f"duende logs {name}", "see what it wrote")
    stop = Advice(f"duende stop {name}", "stop it, and have it stay stopped")
    if state.waiting and state.wanted and not state.status.has_instance:
        return (stop,) if awaited is None else ()
    match state.status:
        case DaemonStatus.CREATED:
            return (start,)
        case DaemonStatus.STARTING:
            look = Advice(f"duende logs -f {name}", "see what it does")
            return (look, stop) if awaited is None else (look,)
        case DaemonStatus.RUNNING:
            is_well = state.ready and (health is None or health.is_healthy) and awaited is None
            return () if is_well else (logs, Advice(f"duende restart {name}", "start it anew"))
        case DaemonStatus.PAUSED:
            return (Advice(f"duende signal CONT {name}", "let it go on"),)
        case DaemonStatus.STOPPING:
            return _while_stopping(name, state)
        case DaemonStatus.STOPPED:
            by_stack = state.wanted and not state.completed
            return (Advice("duende up", "start the stack, and it with it"), start) if by_stack else (start,)
        case DaemonStatus.BACKOFF:
            again = Advice(start.command, "try at once, and begin a new row of attempts")
            return (logs, again, stop) if awaited is None else (logs, again)
        case DaemonStatus.FAILED:
            return _after_failure(name, state, logs, start)
    assert_never(state.status)


def _while_stopping(name: str, state: DaemonState) -> tuple[Advice, ...]:
    if state.escalated or state.kill_asked:
        text = "see which processes are left; STATE D is a system call that does not return"
        return (Advice(f"duende ps {name}", text),)
    return (Advice(f"duende signal --tree KILL {name}", "end it at once, without grace"),)


def _after_failure(name: str, state: DaemonState, logs: Advice, start: Advice) -> tuple[Advice, ...]:
    again = Advice(start.command, "start it when the cause is mended")
    if state.failure in (FailureReason.NOT_EXECUTABLE, FailureReason.REFUSED):
        return (Advice("duende check", "say what is wrong with the configuration"), again)
    return (logs, again)
