"""The watch for a wall clock that is set. Nobody sets the machine's clock for a test: a pipe plays the kernel."""

from __future__ import annotations

import asyncio
import errno
import os
import sys

import pytest

from duende.system import clockset
from duende.system.clockset import ClockSetWatch


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd_create(2) is Linux's")
def test_the_kernel_gives_a_timer_that_waits_for_the_clock_to_be_set() -> None:
    fd = clockset._open_timer()
    assert fd is not None
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[timerfd]"
        with open(f"/proc/self/fdinfo/{fd}") as file:
            about = dict(line.split(":", 1) for line in file.read().splitlines())
        assert about["clockid"].strip() == "0"  # CLOCK_REALTIME
        assert int(about["settime flags"], 8) == 0o3  # absolute, and cancelled when the clock is set
        assert not os.get_inheritable(fd)
        with pytest.raises(BlockingIOError):
            os.read(fd, 8)
    finally:
        os.close(fd)


def test_a_cancelled_timer_is_told_and_watched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    monkeypatch.setattr(clockset, "_open_timer", lambda: read_end)

    real = os.read

    def read(fd: int, size: int) -> bytes:
        real(fd, size)
        raise OSError(errno.ECANCELED, "cancelled")  # as read(2) of a timerfd does

    async def scene() -> int:
        told = asyncio.Event()
        watch = ClockSetWatch(told.set)
        count = 0
        for _ in range(2):
            told.clear()
            os.write(write_end, b"12345678")
            await asyncio.wait_for(told.wait(), 10.0)
            count += 1
        watch.close()
        os.close(write_end)
        return count

    monkeypatch.setattr(os, "read", read)
    assert asyncio.run(scene()) == 2
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)


def test_without_such_a_timer_the_clock_is_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockset, "_open_timer", lambda: None)
    monkeypatch.setattr(clockset, "_LOOK_S", 0.001)

    async def scene() -> None:
        looks = asyncio.Semaphore(0)
        watch = ClockSetWatch(looks.release)
        async with asyncio.timeout(10.0):
            await looks.acquire()
            await looks.acquire()
        watch.close()
        while not looks.locked():
            await looks.acquire()
        await asyncio.sleep(0.02)  # nothing happens: no event tells that
        assert looks.locked()

    asyncio.run(scene())
