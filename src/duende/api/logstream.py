"""Log records as batches of wire lines: many lines in one write, without holding up the loop or waiting for more."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from duende.api.types import LogLine

if TYPE_CHECKING:
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
    store: LogStore, names: Sequence[str], *, lines: int | None, since_s: float | None, streams: Sequence[str]
) -> AsyncGenerator[list[LogLine], None]:
    """What there is and what comes: whatever has come by the time the reader is ready for it, in one batch."""
    queue: asyncio.Queue[LogRecord | Exception | None] = asyncio.Queue(_BATCH_RECORDS)

    async def collect() -> None:
        records = store.follow(names, lines=lines, since_s=since_s, streams=streams)
        try:
            async for record in records:
                await queue.put(record)
        except Exception as error:  # noqa: BLE001 - raised again where the batches are awaited
            await queue.put(error)
        else:
            await queue.put(None)
        finally:
            if isinstance(records, AsyncGenerator):
                await records.aclose()

    collecting = asyncio.create_task(collect())
    try:
        while True:
            item = await queue.get()
            batch: list[LogLine] = []
            size_bytes = 0
            while item is not None and not isinstance(item, Exception):
                batch.append(_wire(item))
                size_bytes += len(item.message)
                if queue.empty() or size_bytes >= _BATCH_BYTES:
                    break
                item = queue.get_nowait()
            if batch:
                yield batch
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


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
