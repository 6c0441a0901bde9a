"""The numbered, replayable log of what happened and why; kept in the store, the newest also in memory for followers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from duende.runtime.store import Store
from duende.system.clock import Clock

__all__ = ["EventLog", "rfc3339"]

_PAGE = 500  # events that a follower reads at once


def rfc3339(unix_s: float) -> str:
    """Unix time as `2026-11-21T02:36:00.123456Z` (RFC 3339)."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class EventLog:
    """`record` makes events, the driver commits them together with the state they belong to."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._unwritten: list[dict[str, Any]] = []
        self.last_seq = store.last_seq()
        self._wake = asyncio.Event()

    def record(
        self,
        daemon: str,
        kind: str,
        message: str,
        *,
        status: str | None = None,
        cause: str = "",
        data: dict[str, Any] | None = None,
    ) -> None:
        """Number an event; it goes out with the next commit.

        A daemon may say anything of itself, also half a surrogate pair, which no UTF-8 holds: it is shown escaped.
        """
        message = message.encode(errors="backslashreplace").decode()
        self.last_seq += 1
        self._unwritten.append({
            "seq": self.last_seq, "time": rfc3339(self._clock.wall_s()), "daemon": daemon, "kind": kind,
            "status": status, "cause": cause, "message": message, "data": data or {},
        })  # fmt: skip

    def take_unwritten(self) -> list[dict[str, Any]]:
        """The events to commit now."""
        events, self._unwritten = self._unwritten, []
        return events

    def committed(self) -> None:
        """Wake the followers."""
        self._wake.set()
        self._wake = asyncio.Event()

    def since(self, seq: int, limit: int = _PAGE) -> list[dict[str, Any]]:
        """Events with a greater number, oldest first."""
        return self._store.events_after(seq, limit)

    def latest_of(self, daemon: str, limit: int) -> list[dict[str, Any]]:
        """The newest events of one daemon, oldest first."""
        return self._store.latest_events_of(daemon, limit)

    def executions(self) -> dict[tuple[str, int], str]:
        """When each incarnation that is on record was executed."""
        return self._store.executions()

    async def follow(self, after: int) -> AsyncIterator[dict[str, Any]]:
        """All events after that number, then new ones as they come. A reader that is slow gets them later, none is
        skipped.
        """
        while True:
            wake = self._wake
            page = self.since(after)
            for event in page:
                yield event
                after = event["seq"]
            if not page:
                await wake.wait()
