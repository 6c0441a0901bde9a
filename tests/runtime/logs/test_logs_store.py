"""Reading back: the last lines, since a moment, merged, and following."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from duende.config.daemon import LogConfig, LogFormat
from duende.errors import ConfigurationError
from duende.runtime.logs import LogRecord, LogStore
from duende.runtime.logs.naming import next_stamp
from tests.runtime.logs.conftest import TIMEOUT_S, Bench, flood_line, start_flood


def row(second: int, message: str, *, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"2026-11-21T02:36:{second:02}.000000Z {stream} {tag} {message}\n".encode()


def write_log(directory: Path, daemon: str, *files: bytes, compressed: int = 0) -> None:
    """`files` oldest first, the last one is the active; the first `compressed` are gzip."""
    stamp = ""
    for number, content in enumerate(files[:-1]):
        second = 10 * (number + 1)
        stamp = next_stamp((1_795_228_560 + second) * 10**9, stamp)
        path = directory / f"{daemon}.{stamp}.log"
        if number < compressed:
            Path(f"{path}.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    (directory / f"{daemon}.log").write_bytes(files[-1])


def texts(records: object) -> list[str]:
    return [record.text for record in records]  # type: ignore[attr-defined]


@pytest.mark.parametrize("compressed", [0, 1, 2])
def test_all_and_last_lines_over_archives(tmp_path: Path, compressed: int) -> None:
    files = [b"".join(row(10 * f + n, f"{f}{n}") for n in range(5)) for f in range(3)]
    write_log(tmp_path, "web", *files, compressed=compressed)
    store = LogStore(tmp_path)
    everything = [f"{f}{n}" for f in range(3) for n in range(5)]
    assert texts(store.read("web")) == everything
    for lines in range(17):
        assert texts(store.read("web", lines=lines)) == everything[len(everything) - min(lines, 15) :]
    assert texts(store.read("web", since_s=1_795_228_560 + 13)) == everything[8:]
    assert texts(store.read("web", since_s=1_795_228_560 + 13, lines=2)) == everything[-2:]


def test_the_tail_of_a_large_file_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path, "web", b"".join(row(n % 60, str(n)) for n in range(200_000)))
    parsed = 0
    from duende.runtime.logs import tail

    def count(daemon: str, line: bytes) -> LogRecord:
        nonlocal parsed
        parsed += 1
        return original(daemon, line)

    original = tail.parse_line
    monkeypatch.setattr(tail, "parse_line", count)
    assert texts(LogStore(tmp_path).read("web", lines=3)) == ["199997", "199998", "199999"]
    assert parsed < 1000


def test_streams_are_selected(tmp_path: Path) -> None:
    rows = [row(n, f"out{n}") for n in range(50)] + [row(50, "err", stream="stderr")] + [row(51, "x" * 99)] * 400
    write_log(tmp_path, "web", b"".join(rows))
    assert texts(LogStore(tmp_path).read("web", streams=["stderr"])) == ["err"]
    assert texts(LogStore(tmp_path).read("web", streams=["stderr"], lines=5)) == ["err"]


def test_pieces_are_joined_across_a_rotation(tmp_path: Path) -> None:
    write_log(tmp_path, "web", row(1, "a", tag="P:3"), row(2, "b", tag="P") + row(3, "c") + row(4, "d"))
    records = list(LogStore(tmp_path).read("web"))
    assert [(r.text, r.priority, r.partial) for r in records] == [("abc", 3, False), ("d", None, False)]
    assert texts(LogStore(tmp_path).read("web", lines=2)) == ["abc", "d"]


def test_several_daemons_are_merged_by_time(tmp_path: Path) -> None:
    write_log(tmp_path, "a", row(1, "a1") + row(4, "a4"))
    write_log(tmp_path, "b", row(2, "b2"), row(3, "b3") + row(5, "b5"))
    store = LogStore(tmp_path)
    assert texts(store.read(["a", "b"])) == ["a1", "b2", "b3", "a4", "b5"]
    assert texts(store.read(["a", "b"], lines=3)) == ["b3", "a4", "b5"]


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(LogStore(tmp_path / "nothing").read("web", lines=3)) == []
    with pytest.raises(ConfigurationError, match="not a daemon's name"):
        list(LogStore(tmp_path).read("../etc/passwd"))


def test_formats_may_change_within_a_file(bench: Bench) -> None:
    for form in (LogFormat.TEXT, LogFormat.JSON, LogFormat.LOGFMT):
        read, write = bench.pipe()
        bench.attach(read, LogConfig(format=form))
        os.write(write, form.value.encode() + b"\n")
        bench.close_fd(write)
        bench.pump.drained("web", 1).result(TIMEOUT_S)
    assert bench.messages() == [b"text", b"json", b"logfmt"]


def test_a_record_has_a_wire_form() -> None:
    record = LogRecord("web", "stdout", b"\xff", 1.5, 3, 4)
    assert record.to_json()["message_base64"] == "/w=="
    assert LogRecord("web", "stdout", b"x").to_json()["message"] == "x"


async def take(records: AsyncIterator[LogRecord], count: int) -> list[bytes]:
    async with asyncio.timeout(TIMEOUT_S):
        return [(await anext(records)).message for _ in range(count)]


def told_when_waiting(store: LogStore) -> asyncio.Event:
    """Set when a follower of `store` has read all that there is and waits for more."""
    waiting, wait = asyncio.Event(), store._wait

    async def tell_and_wait(changed: Any) -> None:
        waiting.set()
        await wait(changed)

    store._wait = tell_and_wait  # type: ignore[method-assign]
    return waiting


@pytest.mark.real
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.RAW])
def test_following_across_rotations_and_restarts_loses_and_doubles_nothing(
    bench: Bench, form: LogFormat, compress: bool
) -> None:
    """Two managers in turn, and a rotation every few hundred lines."""
    count = 20_000
    config = LogConfig(format=form, max_size=40_000, keep=0, compress=compress)

    async def follow() -> None:
        got: list[bytes] = []
        for first in (0, count):
            read, write = bench.pipe()
            store = bench.store()
            at_end = told_when_waiting(store)
            records = store.follow("web", lines=0)
            started = asyncio.ensure_future(take(records, count))
            await at_end.wait()  # before the first new line
            bench.attach(read, config, instance=first + 1)
            flood = start_flood(write, count, first)
            bench.close_fd(write)
            got += await started
            assert flood.wait() == 0
            await records.aclose()  # type: ignore[attr-defined]
            await asyncio.to_thread(bench.pump.close, TIMEOUT_S)
            bench.new_pump()
        assert got == [flood_line(number) for number in range(2 * count)]

    asyncio.run(follow())


def test_following_begins_with_the_last_lines(bench: Bench) -> None:
    async def follow() -> None:
        read, write = bench.pipe()
        bench.attach(read, LogConfig())
        wrote = threading.Event()
        bench.pump.subscribe("web", wrote.set)
        os.write(write, b"1\n2\n3\n")
        await asyncio.to_thread(wrote.wait, TIMEOUT_S)
        records = bench.store().follow("web", lines=2)
        assert await take(records, 2) == [b"2", b"3"]
        os.write(write, b"4\n")
        assert await take(records, 1) == [b"4"]
        everything = bench.store().follow(["web", "later"], lines=None)
        assert await take(everything, 4) == [b"1", b"2", b"3", b"4"]
        other_read, other_write = bench.pipe()
        bench.attach(other_read, LogConfig(), daemon="later")
        os.write(other_write, b"5\n")
        assert await take(everything, 1) == [b"5"]
        await records.aclose()  # type: ignore[attr-defined]
        await everything.aclose()  # type: ignore[attr-defined]

    asyncio.run(follow())


def test_following_without_a_pump_looks_again(tmp_path: Path) -> None:
    async def follow() -> None:
        path = tmp_path / "web.log"
        path.write_bytes(row(1, "one"))
        records = LogStore(tmp_path).follow("web")
        assert await take(records, 1) == [b"one"]
        with path.open("ab") as file:
            file.write(row(2, "two"))
        assert await take(records, 1) == [b"two"]
        with path.open("wb") as file:  # copytruncate
            file.write(row(3, "3"))
        assert await take(records, 1) == [b"3"]
        await records.aclose()  # type: ignore[attr-defined]

    asyncio.run(follow())


def test_a_reader_that_stops_early_leaves_nothing_open(tmp_path: Path) -> None:
    write_log(tmp_path, "web", row(1, "a"), row(2, "b"))
    before = len(os.listdir("/proc/self/fd"))
    reading = LogStore(tmp_path).read("web")
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
