"""Who is expected to ping, how often, and that only a daemon that is well does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from duende.model.health import HealthStatus
from duende.worker.watchdog import interval_s, keep_pinging

PID = str(os.getpid())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": PID, "NOTIFY_SOCKET": "/x"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "NOTIFY_SOCKET": "/x"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": "/x"}, None),  # its parent is meant
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": PID}, None),
        ({"WATCHDOG_USEC": "0", "NOTIFY_SOCKET": "/x"}, None),
        ({"WATCHDOG_USEC": "x", "NOTIFY_SOCKET": "/x"}, None),
        ({}, None),
    ],
)
def test_who_pings_how_often(environ: dict[str, str], expected: float | None) -> None:
    assert interval_s(environ) == expected


def test_only_a_daemon_that_is_well_pings_and_a_lost_socket_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "s")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    answers = iter([HealthStatus.healthy(), HealthStatus.unhealthy("ill"), HealthStatus.healthy()])

    async def main() -> None:
        asked = asyncio.Event()

        async def is_well() -> HealthStatus:
            try:
                return next(answers)
            except StopIteration:
                asked.set()
                return await asyncio.Future()

        task = asyncio.create_task(keep_pinging(0.001, is_well))
        await asyncio.wait_for(asked.wait(), 20)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        asyncio.run(main())
        assert [sock.recv(100), sock.recv(100)] == [b"WATCHDOG=1"] * 2
        with pytest.raises(BlockingIOError):
            sock.recv(100)
    answers = iter([HealthStatus.healthy()] * 3)
    asyncio.run(main())
    said = capfd.readouterr().err
    assert said.count("no sign of life could be given") == 1  # once, not each time
