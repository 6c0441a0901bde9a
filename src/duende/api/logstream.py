"""Log records as batches of wire lines: many lines in one write, without holding up the loop or waiting for more."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from duende.api.types import LogLine

if TYPE_CHECKING:
    from duende.runtime.logs.place import Place
    from duende.runtime.logs.record import LogRecord
    from duende.runtime.logs.store import LogStore

__all__ = ["followed_lines", "past_lines"]

# Either bound ends a batch: some hundred KiB per write, and no long line makes many of its kind wait in memory.
_BATCH_RECORDS = 256
_BATCH_BYTES = 256 * 1024


async def past_lines(
    store: LogStore, names: Sequence[str], *, lines: int | None, since_s: float | None, streams: Sequence[str]
) -> AsyncGenerator[list[LogLine], None]:
    """What there is; read from the disk in a thread."""
    records = store.read(names, lines=lines, since_s=since_s, streams=streams)
    step: asyncio.Future[list[LogLine]] | None = None
    try:
        while True:
            # Shielded, because a thread can't be cancelled and must have left the generator before it is closed.
            step = asyncio.ensure_future(asyncio.to_thread(_take, records))
            batch = await asyncio.shield(step)
            if not batch:
                return
            yield batch
    finally:
        if step is not None:
            await asyncio.gather(step, return_exceptions=True)
        if hasattr(records, "close"):
            await asyncio.to_thread(records.close)


async def followed_lines(
    store: LogStore, names: Sequence[str], *, lines: int | None, since_s: float | None, streams: Sequence[str],
    places: Sequence[Place] | None,
) -> AsyncGenerator[tuple[list[LogLine], list[str]], None]:  # fmt: skip
    """What there is and what comes, in batches of what has come meanwhile, each with the places that it changed."""
    followed = store.follow_places(names, lines=lines, since_s=since_s, streams=streams, places=places)
    async with contextlib.aclosing(followed):
        async for records, news in followed:
            left = iter(records)
            held = _take(left)
            while batch := _take(left):
                yield held, []
                held = batch
            yield held, [str(place) for place in news]


def _take(records: Iterator[LogRecord]) -> list[LogLine]:
    batch: list[LogLine] = []
    size_bytes = 0
    for record in records:
        batch.append(_wire(record))
        size_bytes += len(record.message)
        if len(batch) >= _BATCH_RECORDS or size_bytes >= _BATCH_BYTES:
            break
    return batch


def _wire(record: LogRecord) -> LogLine:
    line: LogLine = {"time": None, "daemon": record.daemon, "stream": record.stream}
    if record.time_s is not None:
        line["time"] = datetime.fromtimestamp(record.time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if record.instance is not None:
        line["instance"] = record.instance
    if record.priority is not None:
        line["priority"] = record.priority
    if record.partial:
        line["partial"] = True
    try:
        line["message"] = record.message.decode()
    except UnicodeDecodeError:
        line["message_base64"] = base64.b64encode(record.message).decode("ascii")
    return line
