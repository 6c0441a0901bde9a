"""What each hook has still to be told, and what must be stored so that a killed manager's successor knows it. Pure.

One *position* in the log of events holds for all hooks that are up to date: they wanted nothing up to there, or have
had it. A hook that has not has a place of its own, just before its oldest undelivered event. An event counts as
delivered only when that is stored, so after a death one may be delivered twice, and none is left out.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from duende.config.hook import HookConfig
from duende.runtime.hooks.select import Selection

__all__ = ["QUEUE_MAX", "Ledger"]

QUEUE_MAX = 1000  # undelivered events of one hook; some 300 KB. Behind a dead endpoint the oldest go first

Event = Mapping[str, Any]


class Ledger:
    """`stored` is what `to_json` gave; empty at the first start, then only events after `last_seq` count."""

    def __init__(self, hooks: Iterable[HookConfig], stored: str, *, last_seq: int) -> None:
        hooks = list(hooks)
        found: dict[str, Any] = json.loads(stored) if stored else {"position": last_seq, "behind": {}}
        self.position: int = min(found["position"], last_seq)  # greater: the database was on a full disk, or restored
        names = {hook.name for hook in hooks}
        behind = {name: seq for name, seq in found["behind"].items() if name in names}
        self._behind = {name: min(seq, self.position) for name, seq in behind.items()}
        self.read_seq: int = min((self.position, *self._behind.values()))  # the log is read from here
        self._selection = Selection(hooks)
        self._queues: dict[str, deque[Event]] = {}
        self.dropped: dict[str, int] = {}  # how many a full queue lost, by hook
        self.missing = 0  # events that the log did not keep long enough

    def take(self, event: Event) -> list[HookConfig]:
        """The log's next event; returns the hooks that it is for."""
        seq = event["seq"]
        self.missing += max(seq - self.read_seq - 1, 0)
        told = [hook for hook in self._selection.hooks_for(event) if seq > self._behind.get(hook.name, self.position)]
        for hook in told:
            queue = self._queues.setdefault(hook.name, deque())
            if len(queue) >= QUEUE_MAX:
                queue.popleft()
                self.dropped[hook.name] = self.dropped.get(hook.name, 0) + 1
            queue.append(event)
        self.read_seq = seq
        if seq >= self.position:
            self.position = seq
            self._behind.clear()  # from here on, the queues say all
        return told

    def head(self, name: str) -> Event | None:
        """The oldest event that this hook has still to be told."""
        queue = self._queues.get(name)
        return queue[0] if queue else None

    def done(self, name: str, seq: int) -> None:
        """It was told everything up to that number, or that was given up."""
        queue = self._queues[name]
        while queue and queue[0]["seq"] <= seq:
            queue.popleft()
        if not queue:
            del self._queues[name]

    def undelivered(self, name: str) -> int:
        """How many events wait for this hook."""
        return len(self._queues.get(name, ()))

    def to_json(self) -> str:
        """What is to be stored."""
        behind = {name: max(seq, self.read_seq) for name, seq in self._behind.items()}  # not caught up yet
        behind |= {name: queue[0]["seq"] - 1 for name, queue in self._queues.items()}
        return json.dumps({"position": self.position, "behind": behind}, sort_keys=True)
