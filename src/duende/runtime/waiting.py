"""When an operation is over: what each one waits for, and what it then says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from duende.core.state import DaemonState
from duende.model.status import DaemonStatus
from duende.runtime.driver import Slot
from duende.runtime.report import result

__all__ = [
    "Verdict", "exited", "fallen", "gone", "gone_or_again", "is_between_runs", "is_hopeless", "ready", "running",
    "settled", "started", "until",
]  # fmt: skip

Verdict = Callable[[Slot], tuple[bool, str] | None]
"""None: not over yet. Otherwise (ok, message)."""

EARLY_DEATH_S = 0.1  # as documented with `ready`; a shell or an interpreter needs some 20 ms to find its script missing


def ready(after_failures: int) -> Verdict:
    """Ready, or completed; not ok as soon as it fails (also when it will be tried again: that is said).
    `after_failures` is the number of failed tries it had before, so that an old failure is not taken for a new one."""

    def judge(slot: Slot) -> tuple[bool, str] | None:
        state = slot.state
        match state.status:
            case DaemonStatus.RUNNING if state.ready:
                return True, ""
            case _ if state.waiting:
                return None  # a former life's end says nothing about the start that is to come
            case DaemonStatus.STOPPED:
                return (True, "completed") if state.completed else (False, _ended(state))
            case DaemonStatus.FAILED:
                return False, _ended(state)
            case DaemonStatus.BACKOFF if state.attempt > after_failures:
                return False, f"{_ended(state)}; will be tried again"
            case _:
                return None

    return judge


def settled(slot: Slot) -> tuple[bool, str] | None:
    """The start is over, one way or the other; what nobody wants is left alone."""
    if not slot.state.wanted and not slot.state.status.has_instance:
        return True, "not started: " + ("autostart is off" if slot.state.instance == 0 else "stopped by hand")
    if is_between_runs(slot):
        return True, "runs on its schedule"
    return ready(0)(slot)


def is_between_runs(slot: Slot) -> bool:
    """It has a schedule, that counts, and nothing of it is under way."""
    state = slot.state
    under_way = state.status.has_instance or state.status is DaemonStatus.BACKOFF or state.waiting
    return slot.config.schedule is not None and state.wanted and not under_way


def running(slot: Slot) -> tuple[bool, str] | None:
    """Executed."""
    if slot.state.status is DaemonStatus.FAILED:
        return False, _ended(slot.state)
    return (True, "") if slot.state.executed and slot.state.status is not DaemonStatus.STOPPING else None


def gone(slot: Slot) -> tuple[bool, str] | None:
    """No instance, and none will come by itself."""
    if slot.state.status in (DaemonStatus.STOPPED, DaemonStatus.CREATED, DaemonStatus.FAILED):
        return True, slot.state.exit.message if slot.state.exit else ""
    return None


def gone_or_again(instance: int) -> Verdict:
    """Gone; not ok when a later request has made a newer incarnation than that one."""

    def judge(slot: Slot) -> tuple[bool, str] | None:
        if slot.state.instance > instance:
            return False, "was started again: somebody has asked for that meanwhile"
        return gone(slot)

    return judge


def is_hopeless(slot: Slot) -> bool:
    """Whether nothing says that it will be up soon: it failed, keeps failing, or nobody wants it."""
    state = slot.state
    never = state.status in (DaemonStatus.CREATED, DaemonStatus.STOPPED) and not state.waiting and not state.completed
    return never or state.status in (DaemonStatus.FAILED, DaemonStatus.BACKOFF)


def exited(instance: int) -> Verdict:
    """That incarnation is over, whatever comes after."""

    def judge(slot: Slot) -> tuple[bool, str] | None:
        over = slot.state.instance != instance or not slot.state.status.has_instance
        return (True, _ended(slot.state)) if over else None

    return judge


async def until(slot: Slot, judge: Verdict, timeout_s: float | None, *, changed: bool) -> dict[str, Any]:
    """Wait for the verdict. A time-out is an answer too: it says where the daemon stands; nothing is undone."""
    try:
        async with asyncio.timeout(timeout_s):
            while (verdict := judge(slot)) is None:
                await slot.changed.wait()
    except TimeoutError:
        text = f"still {slot.state.status.value} after {timeout_s:g} s"
        return {**result(slot, False, changed, text), "timed_out": True}
    return result(slot, verdict[0], changed, verdict[1])


async def started(slots: list[Slot], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Look once more at what has just been started: what could not bind its port, say, is gone by now.

    A command without a readiness check counts as ready when it is executed, so give it the moment in which most such
    failures happen. What came up and fell again while others were waited for is told as well.
    """
    young = [
        slot
        for slot, one in zip(slots, results, strict=True)
        if one["ok"] and one["changed"] and slot.state.executed and _is_ready_unasked(slot)
    ]
    ends = [asyncio.ensure_future(until(slot, fallen, EARLY_DEATH_S, changed=True)) for slot in young]
    await asyncio.gather(*ends)
    return [
        result(slot, False, one["changed"], f"came up, then {_ended(slot.state)}")
        if one["ok"] and fallen(slot)
        else one
        for slot, one in zip(slots, results, strict=True)
    ]


def _is_ready_unasked(slot: Slot) -> bool:
    return not slot.config.awaits_ready


def fallen(slot: Slot) -> tuple[bool, str] | None:
    """It runs no more, without having been asked to end and without having completed."""
    return (True, "") if slot.state.status in (DaemonStatus.BACKOFF, DaemonStatus.FAILED) else None


def _ended(state: DaemonState) -> str:
    return state.exit.message if state.exit else state.status.value
