"""F016: the status can be asked at any moment of a life, and it only ever moves as the table allows."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from duende.api.client import Client
from duende.api.server import ApiServer
from duende.core.lifecycle import TABLE
from duende.model.status import DaemonStatus
from tests.claims.library import until
from tests.harness import PATIENCE_S, Stack

ASK_EVERY_S = 0.001

DAEMON = """\
import asyncio
from duende import Daemon

class Web(Daemon):
    async def init(self, config):
        await asyncio.sleep(0.05)
    async def run(self, ctx):
        await ctx.wait_shutdown()
        await asyncio.sleep(0.05)
"""

# What one step may do: TABLE by status, without the event that did it.
ALLOWED = {(status, after) for (status, _), row in TABLE.items() for after in row.leads_to}


class ApiAsker(threading.Thread):
    """Asks over the socket, from outside of the event loop."""

    def __init__(self, socket_path: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.asked = 0
        self.errors: list[BaseException] = []
        self._client = Client(socket_path)
        self._halt = threading.Event()

    def run(self) -> None:
        try:
            while not self._halt.wait(ASK_EVERY_S):
                (one,) = self._client.get("/v1/status")["daemons"]
                self.asked += 1
                if self.seen[-1:] != [one["status"]]:
                    self.seen.append(one["status"])
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.errors.append(error)

    def stop(self) -> None:
        self._halt.set()
        self.join()


def is_part_of(seen: list[str], path: list[str]) -> bool:
    """Whether what was seen is what happened, with some moments missed."""
    steps = iter(path)
    return all(any(status == step for step in steps) for status in seen)


@pytest.mark.claim("F016")
def test_status_can_always_be_asked(stack: Stack, library, claim_figure) -> None:
    """By the library and over the API: from created over crashes, backoff, pause, restart to failed and stopped."""
    stack.file("web.py", DAEMON)
    toml = """
[daemon.web]
daemon = "web:Web"
autostart = false
restart = { policy = "on-failure", delay = "50ms", crash_limit = 4, crash_window = "1m" }
"""
    seen: list[str] = []
    seen_more = asyncio.Event()
    gaps_s: list[float] = []

    async def play() -> tuple[list[dict], ApiAsker]:
        async with library(toml) as manager:
            slot = manager.slots["web"]
            server = ApiServer(manager)
            await server.listen(manager.paths.socket)
            asker = ApiAsker(manager.paths.socket)
            asker.start()

            async def ask() -> None:
                last_s = time.monotonic()
                while True:
                    (one,) = manager.status()["daemons"]
                    check(one)
                    if seen[-1:] != [one["status"]]:
                        seen.append(one["status"])
                        seen_more.set()
                    await asyncio.sleep(ASK_EVERY_S)
                    gaps_s.append(time.monotonic() - last_s)
                    last_s = time.monotonic()

            asking = asyncio.create_task(ask())
            try:
                await asyncio.sleep(0)  # the first look
                await live(manager, slot)
            finally:
                await asyncio.to_thread(asker.stop)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await server.close()
            if not asking.cancelled():
                asking.result()
            return manager.events.since(0, 10_000), asker

    def check(one: dict) -> None:
        status = DaemonStatus(one["status"])  # ValueError for what is none
        assert (one["pid"] is None) or status.has_instance
        assert one["ready"] is False or status in (DaemonStatus.RUNNING, DaemonStatus.PAUSED, DaemonStatus.STOPPING)
        assert (one["next_start_s"] is None) == (status is not DaemonStatus.BACKOFF)

    async def is_seen(status: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while seen[-1] != status:
                seen_more.clear()
                await seen_more.wait()

    async def live(manager, slot) -> None:
        for _ in range(5):
            await manager.start(["web"])
            for _ in range(2):
                before = slot.state.instance
                os.kill(slot.handle.pid, signal.SIGKILL)
                await until(slot, lambda slot, before=before: slot.state.instance > before and slot.state.ready)
            os.kill(slot.handle.pid, signal.SIGSTOP)
            await until(slot, lambda slot: slot.state.status is DaemonStatus.PAUSED)
            await is_seen("paused")
            os.kill(slot.handle.pid, signal.SIGCONT)
            await until(slot, lambda slot: slot.state.status is DaemonStatus.RUNNING)
            await manager.restart(["web"])
            await asyncio.gather(manager.stop(["web"]), manager.stop(["web"]))
        await manager.start(["web"])
        while slot.state.status is not DaemonStatus.FAILED:
            before = slot.state.instance
            os.kill(slot.handle.pid, signal.SIGKILL)
            await until(
                slot,
                lambda slot, before=before: (
                    slot.state.status is DaemonStatus.FAILED or (slot.state.instance > before and slot.state.ready)
                ),
            )
        await manager.stop(["web"])
        await manager.start(["web"])
        await manager.kill(["web"])

    events, asker = asyncio.run(play())
    assert not asker.errors
    steps = [
        (DaemonStatus(event["data"]["before"]), DaemonStatus(event["status"]))
        for event in events
        if event["kind"] == "status" and event["daemon"] == "web"
    ]
    assert set(steps) <= ALLOWED
    path = ["created", *(after.value for _, after in steps)]
    assert [before.value for before, _ in steps] == path[:-1]  # nothing happened that was not told
    assert is_part_of(seen, path), (seen, path)
    assert is_part_of(asker.seen, path), (asker.seen, path)
    everything = {status.value for status in DaemonStatus}
    assert set(path) == everything
    assert set(seen) == everything
    claim_figure("asked in the process", len(gaps_s), "times")
    claim_figure("over the API", asker.asked, "times")
    claim_figure("transitions", len(steps), "")
    assert len(gaps_s) > 500
    assert asker.asked > 200
