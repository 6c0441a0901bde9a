"""What a new manager makes of what it finds: the stored states on one side, the living instances on the other.

The stored state says what was decided, the platform says what is. Where both agree nothing happens at all: timers go
on to their deadlines, backoff stands where it stood. Where they differ, the difference is told to the core as the
events that the former manager did not live to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from duende.adapters.base import InstanceKey, Survey
from duende.adapters.native.adapter import NativeAdapter
from duende.core.effects import KillTree, Spawn
from duende.core.events import Exited, Spawned
from duende.core.lifecycle import stop_effect
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo
from duende.model.status import DaemonStatus
from duende.runtime.driver import Driver, Slot
from duende.runtime.store import Record

__all__ = ["after_reboot", "reconcile", "stored_after_reboot"]


def after_reboot(state: DaemonState) -> DaemonState:
    """Another boot: no instance of then can be alive, and its clock has begun anew. What was wanted stays wanted."""
    status = state.status
    if status.has_instance or status is DaemonStatus.BACKOFF:
        status = DaemonStatus.STOPPED
    return replace(
        state, status=status, executed=False, ready=False, waiting=False, start_again=False, kill_asked=False,
        stop_cause="",
        attempt=0, failures_s=(), started_s=None, ready_s=None, timers=(),
        slot=replace(state.slot, boot_s=None) if state.slot else None, queued=False,
    )  # fmt: skip


def stored_after_reboot(record: Record) -> Record:
    """The same for one that is not configured now, and so has no rules."""
    state = after_reboot(DaemonState.from_json(dict(record.state), LifecyclePolicy()))
    return replace(record, state=state.to_json(), handle=None)


async def reconcile(driver: Driver, found: Mapping[InstanceKey, Survey]) -> list[Survey]:
    """Bring the slots in line with the instances that exist; returns the ones that belong to no slot."""
    unclaimed = dict(found)
    for slot in driver.slots.values():
        _catch_up(slot, unclaimed)
        survey = unclaimed.pop(slot.key, None) if slot.state.status.has_instance else None
        if survey is not None:
            _resume(driver, slot, survey)
        elif slot.state.status.has_instance:
            await _missing(driver, slot)
        driver.restore(slot)
    return list(unclaimed.values())


def _catch_up(slot: Slot, found: Mapping[InstanceKey, Survey]) -> None:
    """A newer incarnation is there than the state knows: the former manager could not write it down (a full disk).

    It was started because it was wanted; whether that, too, was not written is not known. The one on record, if the
    platform still lists it, has ended: there is never more than one.
    """
    newest = max((key.instance for key in found if key.name == slot.config.name), default=0)
    if newest > slot.state.instance:
        slot.state = replace(
            slot.state, status=DaemonStatus.STARTING, wanted=True, instance=newest, executed=False, ready=False,
            waiting=False, start_again=False, kill_asked=False, escalated=False, stop_cause="", failure=None, timers=(),
        )  # fmt: skip


def _resume(driver: Driver, slot: Slot, survey: Survey) -> None:
    name, instance = slot.config.name, slot.state.instance
    slot.handle = survey.handle
    slot.limits_not_enforced = tuple(survey.note.get("gaps") or ())
    if not slot.state.executed:
        awaits_ready = bool(survey.note.get("awaits_ready", False))
        driver.post(name, Spawned(instance, awaits_ready))
    else:
        _stop_again(driver, slot)


def _stop_again(driver: Driver, slot: Slot) -> None:
    """Whether the signal went out before the former manager ended is not known; once more does less harm than never."""
    state = slot.state
    if state.status is not DaemonStatus.STOPPING:
        return
    if state.kill_asked or state.escalated:
        driver.perform_again(slot, KillTree(state.instance, state.policy.kill_leader_only))
    else:
        driver.perform_again(slot, stop_effect(state))


async def _missing(driver: Driver, slot: Slot) -> None:
    """No keeper knows it: it was never made, or it lives without its keeper, or it is gone and nobody saw how."""
    name, state = slot.config.name, slot.state
    if not state.executed:
        driver.perform_again(slot, Spawn(state.instance))  # idempotent by its number
        return
    adapter = slot.adapter
    if slot.handle is not None and isinstance(adapter, NativeAdapter) and await adapter.adopt(slot.key, slot.handle):
        _stop_again(driver, slot)
        return
    pid = slot.handle.pid if slot.handle else None
    driver.post(
        name, Exited(state.instance, ExitInfo.unknown(f"pid {pid} ended while neither manager nor keeper was there"))
    )
