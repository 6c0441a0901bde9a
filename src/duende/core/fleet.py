"""The order of a stack: who waits for whom, at the start and at the stop. Pure, like the lifecycle.

`after` maps each daemon to what it waits for: `{"web": {"cache": Condition.READY}}` means that web starts once cache is
ready. Whether a condition holds is read from the lifecycle's states and nothing else:

- *started*: its incarnation was executed and is not being stopped; a daemon that has completed also counts.
- *ready*: it is ready and not being stopped; a daemon that has completed also counts.
- *completed*: it ended by itself, successfully, since it was last asked for. One that was stopped on request has not
  completed, and neither has one that waits to run again.
- *healthy*: it is ready, and its health check says so.

A condition is asked for at the start only; a dependency that falls over later stops nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import assert_never

from duende.core.state import DaemonState
from duende.model.condition import Condition
from duende.model.status import DaemonStatus

__all__ = [
    "After",
    "condition_met",
    "cycle_in",
    "dependents",
    "start_layers",
    "stop_layers",
    "unmet",
]

After = Mapping[str, Mapping[str, Condition]]


def unmet(
    name: str, after: After, states: Mapping[str, DaemonState], healthy: Container[str] = frozenset()
) -> tuple[str, ...]:
    """Name what `name` still waits for, in the configured order; empty when it may start.

    `healthy` holds the names whose health check passes. A dependency that `states` does not know is unmet.
    """
    waits_for = after.get(name)
    if not waits_for:
        return ()
    return tuple(
        other
        for other, condition in waits_for.items()
        if other not in states or not condition_met(condition, states[other], other in healthy)
    )


def condition_met(condition: Condition, state: DaemonState, healthy: bool) -> bool:
    """Whether what one daemon waits for in another holds now."""
    stays = state.executed and state.status is not DaemonStatus.STOPPING
    match condition:
        case Condition.STARTED:
            return stays or state.completed
        case Condition.READY:
            return (stays and state.ready) or state.completed
        case Condition.COMPLETED:
            return state.completed
        case Condition.HEALTHY:
            return stays and state.ready and healthy
        case _:
            assert_never(condition)


def dependents(after: After) -> dict[str, tuple[str, ...]]:
    """Turn `after` round: for each name, who waits for it. Every name that occurs is a key."""
    waiters: dict[str, list[str]] = {name: [] for name in _names_in(after)}
    for name, waits_for in after.items():
        for other in waits_for:
            waiters[other].append(name)
    return {name: tuple(names) for name, names in waiters.items()}


def cycle_in(after: After) -> list[str] | None:
    """Find daemons that wait for each other: names in order, the first repeated at the end; None if there are none."""
    done: set[str] = set()
    for root in after:
        path: dict[str, None] = {}  # an ordered set: how we came here from the root
        rest: list[tuple[str, bool]] = [(root, True)]  # an explicit stack: chains may be longer than Python's own
        while rest:
            name, entering = rest.pop()
            if not entering:
                del path[name]
                done.add(name)
            elif name in path:
                way = list(path)
                return [*way[way.index(name) :], name]
            elif name not in done:
                path[name] = None
                rest.append((name, False))
                rest.extend((other, True) for other in reversed(list(after.get(name, ()))))
    return None


def start_layers(after: After) -> list[tuple[str, ...]]:
    """Put every name into the earliest layer whose names wait only for earlier layers; ValueError on a cycle."""
    names = _names_in(after)
    return _layers(names, after, dict.fromkeys(names))


def stop_layers(names: Iterable[str], after: After) -> list[tuple[str, ...]]:
    """Order a stop of `names`: whoever waits for another stops before it, also where the link between them goes
    through daemons that stay up. ValueError on a cycle.
    """
    chosen = dict.fromkeys(names)
    return _layers([*chosen, *_names_in(after)], dependents(after), chosen)


def _layers(
    order: Iterable[str], before: Mapping[str, Collection[str]], chosen: Mapping[str, None]
) -> list[tuple[str, ...]]:
    """Layer the chosen names so that each comes later than the chosen among all it reaches through `before`."""
    depth: dict[str, int] = {}  # the first layer that is free for it
    layers: list[list[str]] = []
    for name in _topological(order, before):
        floor = max((depth[other] + (other in chosen) for other in before.get(name, ())), default=0)
        depth[name] = floor
        if name in chosen:
            layers.extend([] for _ in range(floor + 1 - len(layers)))
            layers[floor].append(name)
    place = {name: at for at, name in enumerate(chosen)}
    return [tuple(sorted(layer, key=place.__getitem__)) for layer in layers]


def _topological(order: Iterable[str], before: Mapping[str, Collection[str]]) -> list[str]:
    """All of `order`, each after everything in its `before` (Kahn's algorithm)."""
    names = list(dict.fromkeys(order))
    missing = {name: len(before.get(name, ())) for name in names}
    unlocks: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for other in before.get(name, ()):
            unlocks[other].append(name)
    found = [name for name in names if not missing[name]]
    for name in found:  # grows while we walk it
        for waiter in unlocks[name]:
            missing[waiter] -= 1
            if not missing[waiter]:
                found.append(waiter)
    if len(found) < len(names):
        stuck = sorted(name for name in names if missing[name])
        raise ValueError(f"cannot order the stack: a cycle among {', '.join(stuck)}; `cycle_in` shows it")
    return found


def _names_in(after: After) -> list[str]:
    """Every name that occurs, as it is first met: a key, or only waited for."""
    return list(dict.fromkeys([*after, *(other for waits_for in after.values() for other in waits_for)]))
