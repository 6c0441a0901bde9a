"""Reads the logs of a stack back: the last lines, all since a moment, or on and on.

What the files hold is all there is: `status` and `logs` read them, nothing is kept in memory besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path

from duende.runtime.logs.naming import STREAMS, check_name
from duende.runtime.logs.place import Place
from duende.runtime.logs.record import LogRecord
from duende.runtime.logs.tail import Query, Tail

__all__ = ["LogStore", "Subscribe"]

Subscribe = Callable[[str, Callable[[], None]], Callable[[], None]]

# Without a pump to tell of new lines (reading the logs of another process) the files are looked at this often: under
# what a person notices, and a stat of a few files each time.
_POLL_INTERVAL_S = 0.2


class LogStore:
    """The logs below `log_dir`; `directories` names the daemons whose logs are elsewhere.

    `subscribe` is `LogPump.subscribe` where the pump is in this process; without it following has to poll.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        subscribe: Subscribe | None = None,
        directories: Mapping[str, Path] | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._subscribe = subscribe
        self._directories = directories if directories is not None else {}

    def read(
        self,
        daemon: str | Iterable[str],
        *,
        lines: int | None = None,
        since_s: float | None = None,
        streams: Iterable[str] | None = None,
    ) -> Iterator[LogRecord]:
        """Yield what there is at this moment, several logs merged by time; with `lines` only that many, the last ones.

        Lines that were written in pieces come whole. A record of a raw log has no time and sorts by its file's.
        Blocks while it reads: an asyncio program wants `asyncio.to_thread`.
        """
        tails = self._tails(daemon, Query(since_s, streams))
        try:
            for tail in tails:
                tail.stop_at_present_end()
                if lines is not None:
                    tail.skip_to_last(lines)
            merged = heapq.merge(*(_drain(tail, lines) for tail in tails), key=lambda item: item[0])
            if lines is None:
                yield from (record for _, record in merged)
            else:
                yield from deque((record for _, record in merged), maxlen=lines)
        finally:
            for tail in tails:
                tail.close()

    async def follow(
        self,
        daemon: str | Iterable[str],
        *,
        lines: int | None = 10,
        since_s: float | None = None,
        streams: Iterable[str] | None = None,
    ) -> AsyncIterator[LogRecord]:
        """Yield the last `lines` (None: all) and then every new line, until cancelled or closed.

        No line is left out or doubled by a rotation or a restart. A slow reader reads from disk at its own pace; only
        what is pruned before it gets there is lost to it.
        """
        batches = self.follow_places(daemon, lines=lines, since_s=since_s, streams=streams)
        async with contextlib.aclosing(batches):
            async for records, _ in batches:
                for record in records:
                    yield record

    async def follow_places(
        self,
        daemon: str | Iterable[str],
        *,
        lines: int | None = 10,
        since_s: float | None = None,
        streams: Iterable[str] | None = None,
        places: Iterable[Place] | None = None,
    ) -> AsyncGenerator[tuple[list[LogRecord], list[Place]], None]:
        """As `follow`, in batches, each with the places that have changed by it; the first batch has all of them.

        Who comes back with those (the newest of each stem) goes on there: no line is left out or doubled, also by
        another process. `lines` does not matter then, and a log without a place is read from its beginning.
        """
        names = _names(daemon)
        query = Query(since_s, streams)
        changed = _Changed()
        stop = self._listen(names, changed)
        tails = await asyncio.to_thread(self._tails, names, query)
        try:
            if places is not None:
                _resume(tails, places)
                lines = None
            told: dict[str, Place] = {}
            records = await asyncio.to_thread(_catch_up, tails, lines)
            yield records, _news(tails, told)
            while True:
                changed.clear()
                batch = await asyncio.to_thread(_poll_all, tails)
                if batch:
                    yield batch, _news(tails, told)
                else:
                    await self._wait(changed)
        finally:
            stop()
            for tail in tails:
                tail.close()

    def _listen(self, names: list[str], changed: _Changed) -> Callable[[], None]:
        if self._subscribe is None:
            return lambda: None
        stops = [self._subscribe(name, changed.notify) for name in names]

        def stop_all() -> None:
            for stop in stops:
                stop()

        return stop_all

    async def _wait(self, changed: _Changed) -> None:
        if self._subscribe is None:
            await asyncio.sleep(_POLL_INTERVAL_S)
        else:
            await changed.wait()

    def _tails(self, daemon: str | Iterable[str], query: Query) -> list[Tail]:
        tails = []
        for name in _names(daemon):
            check_name(name)
            directory = self._directories.get(name, self._log_dir)
            tails.append(Tail(name, directory, name, None, query))
            tails += [Tail(name, directory, f"{name}+{stream}", stream, query) for stream in STREAMS]
        return tails


class _Changed:
    """Wakes a follower from the pump's thread: once until it has looked again, however many writes there are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._posted = False

    def notify(self) -> None:
        """Called from any thread, after a write."""
        if not self._posted and not self._loop.is_closed():
            self._posted = True
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Before looking: what is written from here on wakes again."""
        self._event.clear()
        self._posted = False

    async def wait(self) -> None:
        """Until there was a write since `clear`."""
        await self._event.wait()


def _names(daemon: str | Iterable[str]) -> list[str]:
    return [daemon] if isinstance(daemon, str) else list(daemon)


def _drain(tail: Tail, lines: int | None) -> Iterator[tuple[float, LogRecord]]:
    """All records up to the present end with what they sort by; a file's own order is kept where a clock went back."""
    records = _all_records(tail)
    if lines is not None:
        records = iter(deque(records, maxlen=lines))
    latest_s = 0.0
    for record in records:
        latest_s = max(latest_s, tail.modified_s if record.time_s is None else record.time_s)
        yield latest_s, record


def _all_records(tail: Tail) -> Iterator[LogRecord]:
    while batch := tail.poll():
        yield from batch
    yield from tail.rest()


def _resume(tails: list[Tail], places: Iterable[Place]) -> None:
    by_stem = {place.stem: place for place in places}
    for tail in tails:
        if tail.stem in by_stem:
            tail.resume(by_stem[tail.stem])


def _news(tails: list[Tail], told: dict[str, Place]) -> list[Place]:
    """The places that differ from those told last."""
    news = [place for tail in tails if (place := tail.place()) != told.get(place.stem)]
    told.update((place.stem, place) for place in news)
    return news


def _catch_up(tails: list[Tail], lines: int | None) -> list[LogRecord]:
    """The records to begin with; afterwards each tail is at the end of what was there."""
    if lines is None:
        return []  # the first polls bring them
    for tail in tails:
        if lines == 0:
            tail.skip_all()
        else:
            tail.skip_to_last(lines)
    if lines == 0:
        return []
    kept: deque[tuple[float, LogRecord]] = deque(maxlen=lines)
    found: list[tuple[float, LogRecord]] = []
    for tail in tails:
        last: deque[LogRecord] = deque(maxlen=lines)
        while batch := tail.poll():
            last.extend(batch)
        found += [(tail.modified_s if each.time_s is None else each.time_s, each) for each in last]
    kept.extend(sorted(found, key=lambda item: item[0]))
    return [record for _, record in kept]


def _poll_all(tails: list[Tail]) -> list[LogRecord]:
    """What is new in all logs, by time; records without one stay where their log has them."""
    batches = [tail.poll() for tail in tails]
    if sum(1 for batch in batches if batch) < 2:
        return next((batch for batch in batches if batch), [])
    keyed = ([(record.time_s or 0.0, record) for record in batch] for batch in batches)
    return [record for _, record in heapq.merge(*keyed, key=lambda item: item[0])]
