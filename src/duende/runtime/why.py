"""Explains a daemon, draws the stack, tells the critical chain: the core does, from the slots and the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from duende.core.chain import chain_of, chain_to_json, longest_chain, starts_in
from duende.core.explain import Subject, explain
from duende.core.fleet import condition_met
from duende.core.graph import with_what_they_need
from duende.model.health import HealthStatus
from duende.runtime.care import becomes_ready, checks, consequences
from duende.runtime.driver import Slot
from duende.runtime.eventlog import EventLog

__all__ = ["chains", "explanation", "graph"]

_EVENTS_LOOKED_AT = 50  # of one daemon; more than are told, since those of its logs and status texts come among them
_PAGE = 200  # events read at once, some 3 ms; then others have their turn


def explanation(
    name: str, slots: Mapping[str, Slot], health: Mapping[str, HealthStatus], events: EventLog, *, now_s: float,
    is_shutting_down: bool,
) -> dict[str, Any]:  # fmt: skip
    """Why that daemon is as it is, in the wire form."""
    told = events.latest_of(name, _EVENTS_LOOKED_AT)
    subjects = _Subjects(slots, health)
    return explain(name, subjects, told, now_s=now_s, is_shutting_down=is_shutting_down).to_json()


class _Subjects(Mapping[str, Subject]):
    """The slots as `explain` wants to see them; made when they are asked for, since few are."""

    def __init__(self, slots: Mapping[str, Slot], health: Mapping[str, HealthStatus]) -> None:
        self._slots = slots
        self._health = health

    def __getitem__(self, name: str) -> Subject:
        slot = self._slots[name]
        config = slot.config
        return Subject(
            name, slot.state, config.after, self._health.get(name), tuple(checks(config)),
            tuple(consequences(config)), becomes_ready(config), config.autostart, config.schedule is not None,
            slot.next_run_s, slot.next_run_text, slot.status_text,
        )  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


# --- the graph


def graph(
    stack: str, names: Sequence[str], slots: Mapping[str, Slot], health: Mapping[str, HealthStatus]
) -> dict[str, Any]:
    """Who comes after whom, and how they stand: all, or `names` and what they need."""
    after = {name: slot.config.after for name, slot in slots.items()}
    chosen = with_what_they_need(names, after) if names else set(slots)
    daemons = [_node(slot, slots, health) for name, slot in slots.items() if name in chosen]
    return {"stack": stack, "daemons": daemons}


def _node(slot: Slot, slots: Mapping[str, Slot], health: Mapping[str, HealthStatus]) -> dict[str, Any]:
    return {
        "name": slot.config.name,
        "status": slot.state.status.value,
        "ready": slot.state.ready,
        "after": [
            {
                "name": name,
                "condition": condition.value,
                "met": name in slots
                and condition_met(condition, slots[name].state, name in health and health[name].is_healthy),
            }
            for name, condition in slot.config.after.items()
        ],
    }


# --- the critical chain


async def chains(
    stack: str, names: Sequence[str], events: EventLog, unmet: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The chain of the last start of each of `names`; without names, the longest of all."""
    past = [event async for event in _all_events(events)]
    # In a thread: of 10,000 events it takes a fifth of a second, and it is only about values.
    found = await asyncio.to_thread(_found, names, past, events.executions(), unmet)
    return {"stack": stack, "chains": found}


def _found(
    names: Sequence[str], events: Sequence[Mapping[str, Any]], executed: Mapping[tuple[str, int], str],
    unmet: Mapping[str, Sequence[str]],
) -> list[list[dict[str, Any]]]:  # fmt: skip
    starts = starts_in(events, executed)
    if names:
        links = [chain_of(name, starts, unmet) for name in names]
    else:
        present = {name: found for name, found in starts.items() if name in unmet}  # others are no longer configured
        links = [longest_chain(present)]
    return [chain_to_json(one) for one in links if one]


async def _all_events(events: EventLog) -> AsyncIterator[dict[str, Any]]:
    after = 0
    while page := events.since(after, _PAGE):
        for event in page:
            yield event
        after = page[-1]["seq"]
        await asyncio.sleep(0)
