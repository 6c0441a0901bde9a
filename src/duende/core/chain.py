"""What a start was waiting for: the critical chain, as `systemd-analyze critical-chain` has it. Pure.

It is read from recorded events and nothing else, so that every manager says the same. A start is one incarnation, from
the moment it was asked for. The daemon that it waited for last, if it waited, is the next link of its chain, in the
incarnation that was there then. Order is that of the events' numbers; times are the wall clock's, as recorded, so a
clock that was set in between shows in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

__all__ = ["Link", "Start", "chain_of", "chain_to_json", "longest_chain", "starts_in"]

# The end of the incarnation before is no end of waiting for the next one.
_ENDS = ("Exited", "SpawnFailed")

Starts = Mapping[str, Sequence["Start"]]


@dataclass(frozen=True, slots=True)
class Start:
    """One start. Times are Unix seconds, None where that has not happened or is no longer recorded."""

    name: str
    seq: int  # of the event that it is known by
    asked_s: float
    instance: int = 0  # 0: it still waits
    waits_for: tuple[str, ...] = ()  # what was not there when it was asked for
    last: str = ""  # the one of these that came last
    condition: str = ""  # what that had to be
    met_s: float | None = None
    began_s: float | None = None  # the platform was asked for it
    executed_s: float | None = None
    ready_s: float | None = None
    ended_s: float | None = None
    outcome: str = ""  # how it ended
    cause: str = ""  # the kind of event that it came of


@dataclass(frozen=True, slots=True)
class Link:
    """A start in a chain, and when it had become what the one above it waited for (for the first link: ready)."""

    start: Start
    reached_s: float | None

    @property
    def took_s(self) -> float | None:
        """What of that is its own: since it no longer waited for others. Not below 0, whatever was done to the
        clock.
        """
        began_s = self.start.began_s
        return None if self.reached_s is None or began_s is None else max(self.reached_s - began_s, 0.0)


def starts_in(
    events: Iterable[Mapping[str, Any]], executed: Mapping[tuple[str, int], str] | None = None
) -> dict[str, list[Start]]:
    """All starts that the events tell of, by daemon, oldest first. `executed` has the times of executions."""
    starts: dict[str, list[Start]] = {}
    pending: dict[str, Start] = {}
    for event in events:
        name = event["daemon"]
        match event["kind"]:
            case "waiting":
                waits_for = tuple(event["data"].get("waits_for", ()))
                pending[name] = Start(
                    name, event["seq"], _unix_s(event["time"]), waits_for=waits_for, cause=event["cause"]
                )
            case "dependencies-met":
                at_s = _unix_s(event["time"])
                pending[name] = replace(
                    pending.get(name) or Start(name, event["seq"], at_s), seq=event["seq"], met_s=at_s,
                    last=event["data"]["last"], condition=event["data"]["condition"],
                )  # fmt: skip
            case "status":
                _status(event, starts.setdefault(name, []), pending.get(name))
                if event["cause"] not in _ENDS:
                    pending.pop(name, None)
            case _:
                pass
    for name, start in pending.items():
        if start.met_s is None:
            starts.setdefault(name, []).append(start)
    return {name: [_executed(start, executed or {}) for start in found] for name, found in starts.items() if found}


def _status(event: Mapping[str, Any], starts: list[Start], pending: Start | None) -> None:
    instance, at_s = event["data"].get("instance", 0), _unix_s(event["time"])
    if event["status"] == "starting" and (not starts or starts[-1].instance != instance):
        start = pending or Start(event["daemon"], event["seq"], at_s, cause=event["cause"])
        starts.append(replace(start, instance=instance, began_s=at_s))
    elif starts and starts[-1].instance == instance:
        if event["status"] == "running" and starts[-1].ready_s is None:
            starts[-1] = replace(starts[-1], ready_s=at_s)
        elif event["status"] in ("stopped", "backoff", "failed"):
            starts[-1] = replace(starts[-1], ended_s=at_s, outcome=event["message"])


def _executed(start: Start, executed: Mapping[tuple[str, int], str]) -> Start:
    time = executed.get((start.name, start.instance))
    return replace(start, executed_s=_unix_s(time)) if time is not None else start


def _unix_s(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def chain_of(name: str, starts: Starts, unmet: Mapping[str, Sequence[str]] | None = None) -> list[Link]:
    """The chain of a daemon's last start, itself first; empty when no start of it is recorded.

    `unmet` says what those that still wait are waiting for now.
    """
    start: Start | None = starts[name][-1] if starts.get(name) else None
    reached_s = start.ready_s if start else None
    links: list[Link] = []
    while start is not None:
        if start.instance:
            links.append(Link(start, reached_s))
            reached_s = start.met_s
            start = _before(start, starts)
        else:
            others = tuple((unmet or {}).get(start.name) or start.waits_for)
            links.append(Link(replace(start, waits_for=others), None))
            start = next((starts[other][-1] for other in others if starts.get(other)), None)
            reached_s = start.ready_s if start else None
        if len(links) > len(starts):
            break  # each is in it once; only a log that was written under two configurations could say otherwise
    return links


def _before(start: Start, starts: Starts) -> Start | None:
    """The start that it waited for last: of that daemon the newest there was then."""
    found = starts.get(start.last, ()) if start.last else ()
    return next((one for one in reversed(found) if one.seq < start.seq), None)


def longest_chain(starts: Starts) -> list[Link]:
    """Of the last starts that came to readiness, the chain that took the longest from its first request on."""
    roots: dict[int, tuple[float, int]] = {}  # by event number: the first request of its chain, and its length
    longest, name = (-1.0, 0), ""
    for last in (found[-1] for found in starts.values() if found):
        if last.ready_s is not None:
            asked_s, length = _root(last, starts, roots)
            if (total := (max(last.ready_s - asked_s, 0.0), length)) > longest:
                longest, name = total, last.name
    return chain_of(name, starts)


def _root(start: Start, starts: Starts, roots: dict[int, tuple[float, int]]) -> tuple[float, int]:
    """Chains share their ends: each start is looked at once."""
    way: list[Start] = []
    one: Start | None = start
    while one is not None and one.seq not in roots:
        way.append(one)
        one = _before(one, starts)
    asked_s, length = roots[one.seq] if one is not None else (math.inf, 0)
    for passed in reversed(way):
        asked_s, length = min(asked_s, passed.asked_s), length + 1
        roots[passed.seq] = asked_s, length
    return roots[start.seq]


def _zero_s(links: Sequence[Link]) -> float:
    """When the first of the chain was asked for."""
    return min(link.start.asked_s for link in links)


def chain_to_json(links: Sequence[Link]) -> list[dict[str, Any]]:
    """The wire form: seconds since the first of the chain was asked for, and that as Unix time."""
    zero_s = _zero_s(links)

    def since(at_s: float | None) -> float | None:
        return None if at_s is None else round(at_s - zero_s, 6)

    return [
        {
            "name": link.start.name, "instance": link.start.instance, "cause": link.start.cause,
            "waited_for_last": link.start.last or None, "condition": link.start.condition or None,
            "waits_for": list(link.start.waits_for), "zero_unix_s": zero_s, "asked_s": since(link.start.asked_s),
            "dependencies_met_s": since(link.start.met_s), "began_s": since(link.start.began_s),
            "executed_s": since(link.start.executed_s), "ready_s": since(link.start.ready_s),
            "ended_s": since(link.start.ended_s), "outcome": link.start.outcome, "reached_s": since(link.reached_s),
            "took_s": round(link.took_s, 6) if link.took_s is not None else None,
        }
        for link in links
    ]  # fmt: skip
