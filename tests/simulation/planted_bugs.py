"""Bugs that a manager could have; each is planted into the real code, and the simulation must find it.

`BUGS` is the list: a name, how to plant it, and the invariants of which one must break. Those of the lifecycle by
itself are in tests/core/planted_bugs.py; these are about what lies between the core and the machine: order of commit
and effect, takeover, exits, timers, answers.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from duende.adapters.base import InstanceExited
from duende.core import lifecycle
from duende.core.events import Exited, RestartRequested, Spawned, SpawnFailed
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo
from duende.model.status import DaemonStatus
from duende.runtime import report, takeover, waiting
from duende.runtime import store as stored
from duende.runtime.driver import Driver, Slot
from duende.runtime.manager import DaemonManager
from duende.runtime.reactions import Reactions
from duende.runtime.store import Store
from duende.runtime.timers import Timers

from . import stories
from .plan import Plan

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Bug:
    """`breaks` names the invariants of which one must break. What chance rarely comes upon has a `story` of its own."""

    name: str
    plant: Plant
    breaks: tuple[str, ...]
    story: Plan | None = None


def instead(owner: Any, name: str, make: Callable[[Any], Any]) -> Plant:
    """Replace an attribute by what `make` makes of it."""
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


def _never_adopts(original: Any) -> Any:
    async def missing(driver: Driver, slot: Slot) -> None:
        if slot.state.executed:
            driver.post(slot.config.name, Exited(slot.state.instance, ExitInfo.unknown("it is gone")))
        else:
            await original(driver, slot)

    return missing


def _gives_up_starts(original: Any) -> Any:
    async def missing(driver: Driver, slot: Slot) -> None:
        if slot.state.executed:
            await original(driver, slot)
        else:
            driver.post(slot.config.name, SpawnFailed(slot.state.instance, ExitInfo.unknown("nobody knows")))

    return missing


def _commits_later(original: Any) -> Any:
    def commit(driver: Driver, changed: Any) -> None:
        asyncio.get_running_loop().call_later(0.001, original, driver, dict(changed))

    return commit


def _writes_only_events(original: Any) -> Any:
    return lambda store, records, events, **more: original(store, (), events, **more)


def _writes_everybody_wanted(original: Any) -> Any:
    return lambda state: {**original(state), "wanted": True}


def _reads_without_row(original: Any) -> Any:
    return lambda data, policy: original({**data, "attempt": 0, "restarts": 0}, policy)


def _reads_without_timers(original: Any) -> Any:
    return lambda data, policy: original({**data, "timers": []}, policy)


def _never_releases(original: Any) -> Any:
    def own(driver: Driver, work: Any) -> None:
        if inspect.iscoroutine(work) and work.__name__ == "release":
            work.close()
        else:
            original(driver, work)

    return own


def _writes_every_answer_down(original: Any) -> Any:
    def describe(driver: Driver, slot: Slot, before: DaemonState, event: Any, effects: Any) -> None:
        original(driver, slot, before, event, effects)
        if isinstance(event, Spawned) and event.instance == slot.state.instance:
            driver._history.append(stored.began(slot.config.name, event.instance, 1, "now"))

    return describe


def _fires_early(original: Any) -> Any:
    def arm(timers: Timers, name: str, token: int, deadline_s: float) -> None:
        now_s = timers._clock.boottime_s()
        original(timers, name, token, now_s + 0.8 * (deadline_s - now_s))

    return arm


def _fires_late(original: Any) -> Any:
    return lambda timers, name, token, deadline_s: original(timers, name, token, deadline_s + 2.0)


def _calls_every_exit_clean(original: Any) -> Any:
    def on_adapter(reactions: Reactions, platform: str, event: Any) -> None:
        if isinstance(event, InstanceExited):
            event = replace(event, exit=ExitInfo.from_code(0))
        original(reactions, platform, event)

    return on_adapter


def _drops_exits_of_others(original: Any) -> Any:
    def on_adapter(reactions: Reactions, platform: str, event: Any) -> None:
        if isinstance(event, InstanceExited):
            slot = reactions._driver.slots.get(event.key.name)
            if slot is None or slot.key != event.key:
                reactions._driver.own(reactions._adapters[platform].release(event.key))
                return
        original(reactions, platform, event)

    return on_adapter


def _loses_exits(original: Any) -> Any:
    """Those that come while nothing is decided yet."""

    def on_adapter(reactions: Reactions, platform: str, event: Any) -> None:
        if not (isinstance(event, InstanceExited) and reactions._driver._held):
            original(reactions, platform, event)

    return on_adapter


def _believes_older(original: Any) -> Any:
    def step(state: DaemonState, event: Any, **context: Any) -> Any:
        if isinstance(event, Exited):
            event = replace(event, instance=state.instance)
        return original(state, event, **context)

    return step


def _restarts_beside(original: Any) -> Any:
    return lambda state, event, now_s, uniform: lifecycle._spawn(state, now_s)


def _row(status: DaemonStatus, event: type, handle: Any) -> Plant:
    row = lifecycle.Row(handle, frozenset(DaemonStatus))
    return lambda patch: patch.setitem(lifecycle.TABLE, (status, event), row)


def _stops_without_timer(original: Any) -> Any:
    def begin_stop(state: DaemonState, now_s: float) -> Any:
        after, effects = original(state, now_s)
        return replace(after, timers=()), effects

    return begin_stop


def _leaves_first_commit_to_others(original: Any) -> Any:
    def begin(driver: Driver) -> None:
        driver._held = False  # and nobody is woken

    return begin


def _answers_only_when_gone(original: Any) -> Any:
    return lambda instance: waiting.gone


def _takes_all_for_strangers(original: Any) -> Any:
    async def reconcile(driver: Driver, found: Any) -> Any:
        await original(driver, {})
        return list(found.values())

    return reconcile


BUGS = (
    Bug("what lives without a keeper is not adopted", instead(takeover, "_missing", _never_adopts), ("one instance",)),
    Bug("a start without an answer is given up", instead(takeover, "_missing", _gives_up_starts), ("one instance",)),
    Bug("what the keeper holds is not asked for", instead(takeover, "reconcile", _takes_all_for_strangers),
        ("one instance", "runs", "exit is true", "nothing else runs")),
    Bug("effects come before their commit", instead(Driver, "_commit", _commits_later), ("on record first",)),
    Bug("states are not written", instead(Store, "commit", _writes_only_events), ("on record first",)),
    Bug("everybody is written down as wanted", instead(DaemonState, "to_json", _writes_everybody_wanted), ("wish",)),
    Bug("attempts begin anew with a manager", instead(DaemonState, "from_json", _reads_without_row),
        ("backoff stands",)),
    Bug("deadlines are forgotten with a manager", instead(DaemonState, "from_json", _reads_without_timers),
        ("comes to rest", "backoff stands")),
    Bug("timers of a former manager are not armed", instead(Driver, "restore", lambda _: lambda driver, slot: None),
        ("comes to rest", "timer in time")),
    Bug("timers fire early", instead(Timers, "arm", _fires_early), ("backoff stands",)),
    Bug("timers fire late", instead(Timers, "arm", _fires_late), ("timer in time",)),
    Bug("exits are never released", instead(Driver, "own", _never_releases), ("nothing kept",)),
    Bug("a start is written down with each answer", instead(Driver, "_describe", _writes_every_answer_down),
        ("exit once",)),
    Bug("every exit counts as clean", instead(Reactions, "on_adapter", _calls_every_exit_clean), ("exit is true",)),
    Bug("exits during a takeover are lost", instead(Reactions, "on_adapter", _loses_exits), ("comes to rest", "runs")),
    Bug("an exit that is ahead of the state is dropped", instead(Reactions, "on_adapter", _drops_exits_of_others),
        ("comes to rest", "runs"), stories.EXIT_AHEAD),
    Bug("exits of older incarnations are believed", lambda patch: _plant_step(patch, _believes_older),
        ("exit is true", "one instance", "runs")),
    Bug("a restart does not wait for the end", _row(DaemonStatus.RUNNING, RestartRequested,
        _restarts_beside(None)), ("one instance",)),
    Bug("a stop has no deadline", instead(lifecycle, "_begin_stop", _stops_without_timer),
        ("comes to rest", "answered")),
    Bug("a down is taken for a stop by hand", instead(lifecycle, "_still_wanted", lambda _: lambda state, event: False),
        ("runs",)),
    Bug("dependencies are not looked at", instead(DaemonManager, "_unmet", lambda _: lambda manager, slot: ()),
        ("order",)),
    Bug("a boot is not noticed", instead(takeover, "after_reboot", lambda _: lambda state: state),
        ("reboot is no failure", "comes to rest")),
    Bug("a manager decides nothing until something happens", instead(Driver, "begin", _leaves_first_commit_to_others),
        ("runs",)),
    Bug("old timers stay", instead(lifecycle, "_disarm", lambda _: lambda state, kind: state), ("timers fit",)),
    Bug("a stop that another request overtakes has no answer", instead(waiting, "gone_or_again",
        _answers_only_when_gone), ("answered",), stories.OVERTAKEN),
    Bug("a newer incarnation than on record is killed", instead(takeover, "_catch_up",
        lambda _: lambda slot, found: None), ("spared",), stories.NEWER_THAN_RECORD),
    Bug("status has nothing to say", instead(report, "sentence", lambda _: lambda slot, now_s, waiting_for: ""),
        ("status says",)),
)  # fmt: skip


def _plant_step(patch: pytest.MonkeyPatch, make: Callable[[Any], Any]) -> None:
    """The driver has its own name for it."""
    from duende.runtime import driver

    patch.setattr(driver, "step", make(lifecycle.step))
