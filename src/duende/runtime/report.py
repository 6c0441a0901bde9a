"""How the stack is, as the wire form of `status`: numbers, and for each daemon one sentence that says why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duende
from duende.config.units import format_duration
from duende.core.state import DaemonState, TimerKind
from duende.model.health import HealthStatus
from duende.model.status import DaemonStatus
from duende.runtime.driver import Slot

__all__ = ["daemon_status", "sentence", "stack_status"]

TAIL_LINES = 5  # of its log, for a daemon that failed


def stack_status(
    stack: str, keeper_pid: int | None, uptime_s: float, daemons: list[dict[str, Any]],
    failing_hooks: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """The whole answer."""
    manager = {
        "pid": os.getpid(),
        "uptime_s": round(uptime_s, 3),
        "version": duende.__version__,
        "keeper_pid": keeper_pid,
    }
    return {"stack": stack, "manager": manager, "daemons": daemons, "failing_hooks": failing_hooks}


def daemon_status(
    slot: Slot, *, now_s: float, health: HealthStatus | None, waiting_for: Sequence[str],
    log_tail: Callable[[str, int], list[str]],
) -> dict[str, Any]:  # fmt: skip
    """One daemon. `uptime_s` counts from its execution; `next_start_s` from now."""
    state = slot.state
    alive = state.executed and state.status.has_instance
    exit_info = state.exit.to_json() if state.exit else None
    in_trouble = state.status in (DaemonStatus.FAILED, DaemonStatus.BACKOFF)
    starts_s = [at_s for at_s in (state.next_start_s, slot.next_run_s) if at_s is not None]
    next_start_s = min(starts_s, default=None)
    return {
        "name": slot.config.name,
        "id": str(slot.id),
        "status": state.status.value,
        "ready": state.ready,
        "health": health.to_json() if health and alive else None,
        "platform": slot.config.platform,
        "handle": str(slot.handle) if slot.handle and alive else None,
        "pid": slot.handle.pid if slot.handle and alive else None,
        "restarts": state.restarts,
        "uptime_s": round(now_s - state.started_s, 3) if alive and state.started_s is not None else 0.0,
        "exit": {key: exit_info[key] for key in ("reason", "code", "signal", "message", "at_s")} if exit_info else None,
        "next_start_s": round(max(next_start_s - now_s, 0.0), 3) if next_start_s is not None else None,
        "restart_owner": "duende",
        "wanted": state.wanted,
        "waiting_for": list(waiting_for),
        "message": sentence(slot, now_s, waiting_for),
        "limits_not_enforced": list(slot.limits_not_enforced),
        "children": dict(slot.children) if alive else {},
        "log_tail": log_tail(slot.config.name, TAIL_LINES) if in_trouble else [],
    }


def sentence(slot: Slot, now_s: float, waiting_for: Sequence[str]) -> str:
    """Why it is in this state, and what comes next."""
    why = _why(slot, now_s, waiting_for)
    if slot.next_run_s is None or slot.state.status.has_instance:
        return why
    in_s = max(slot.next_run_s - now_s, 0.0)
    next_run = f"next run in {format_duration(round(in_s))} ({slot.next_run_text})"
    return f"{why}; {next_run}" if why else next_run


def _why(slot: Slot, now_s: float, waiting_for: Sequence[str]) -> str:
    state = slot.state
    ended = state.exit.message if state.exit else ""
    if state.waiting and state.wanted and not state.status.has_instance:
        return f"waits for {', '.join(waiting_for) or 'its dependencies'}"
    match state.status:
        case DaemonStatus.CREATED:
            return "not started yet" if slot.next_run_s is None else ""
        case DaemonStatus.STARTING if not state.executed:
            return "being started"
        case DaemonStatus.STARTING:
            return f"executed, not ready yet{_deadline(state, TimerKind.START, now_s, 'given up')}" + _says(slot)
        case DaemonStatus.RUNNING if not state.ready:
            return f"not ready: {state.unready_cause}" + _says(slot)
        case DaemonStatus.RUNNING:
            return slot.status_text
        case DaemonStatus.PAUSED:
            return "stopped by SIGSTOP; SIGCONT lets it go on"
        case DaemonStatus.STOPPING:
            why = state.stop_cause or ("to be started again" if state.start_again else "on request")
            return f"stopping: {why}{_deadline(state, TimerKind.STOP, now_s, 'SIGKILL')}"
        case DaemonStatus.STOPPED:
            if state.completed:
                return f"completed: {ended}"
            if slot.config.schedule is not None:
                suspended = "" if state.wanted else f"its schedule is suspended until `duende start {slot.config.name}`"
                return "; ".join(filter(None, (suspended, f"last run: {ended}" if ended else "")))
            if state.wanted:  # and so the next `up` starts it
                return "stopped for now, by `duende down`" + (f"; last exit: {ended}" if ended else "")
            return f"stopped by hand; last exit: {ended}" if ended else "stopped by hand"
        case DaemonStatus.BACKOFF:
            in_s = max((state.next_start_s or now_s) - now_s, 0.0)
            return f"{ended}; try {state.attempt + 1} in {in_s:.1f} s"
        case DaemonStatus.FAILED:
            reason = state.failure.value if state.failure else "unknown"
            return f"{ended}; not started again ({reason}), `duende start {slot.config.name}` does"


def _deadline(state: DaemonState, kind: TimerKind, now_s: float, then: str) -> str:
    timer = state.timer(kind)
    return f", {then} in {max(timer.deadline_s - now_s, 0.0):.1f} s" if timer else ""


def _says(slot: Slot) -> str:
    why = "" if slot.state.ready_s is not None else slot.probe_text
    words = "; ".join(text for text in (slot.status_text, why) if text)
    return f" ({words})" if words else ""


def result(slot: Slot, ok: bool, changed: bool, message: str = "") -> dict[str, Any]:
    """One line of the answer to an operation."""
    return {
        "name": slot.config.name, "ok": ok, "changed": changed, "status": slot.state.status.value, "message": message,
    }  # fmt: skip


def tail_of(read: Callable[..., Any], name: str, lines: int) -> list[str]:
    """The last lines of a log as text; an unreadable log is no reason to refuse `status`."""
    try:
        return [record.message.decode(errors="replace") for record in read(name, lines=lines)]
    except OSError as error:
        return [f"(the log can't be read: {error.strerror})"]


def by_name(slots: Mapping[str, Slot], names: Sequence[str]) -> list[Slot]:
    """The slots of `names`, all if empty."""
    return [slots[name] for name in names] if names else list(slots.values())
