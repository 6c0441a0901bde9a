"""F107: a daemon that is stopped and continued is Paused, then Running, and nobody takes it for ill."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

import pytest

from duende.model.status import DaemonStatus
from tests.claims.library import until
from tests.harness import Stack

DAEMONS = 4
ROUNDS = 20
LONG_S = 3.0
UPTIME_ERROR_MAX_S = 0.1

# Its health is asked twenty times a second and one failure would restart it: a false one can't stay unseen.
TOML = """
[daemon.web]
daemon = "web:Web"
replicas = %d
restart = { policy = "always", delay = "0s" }
health_check = { interval = "50ms", timeout = "150ms", retries = 1, restart = true }
"""

# It takes its time to answer, so that half of all pauses fall into a question, and may end shortly before its time-out.
WEB = """\
import asyncio
from duende import Daemon, HealthStatus

class Web(Daemon):
    async def run(self, ctx):
        await ctx.wait_shutdown()
    async def health_check(self):
        await asyncio.sleep(0.05)
        return HealthStatus.healthy()
"""


@pytest.mark.claim("F107")
def test_stop_and_continue(stack: Stack, library, claim_figure) -> None:
    """Many pauses of random length, around that of a health check's time-out where the races are, and a long one."""
    stack.file("web.py", WEB)
    chance = random.Random(107)
    pauses_s: list[float] = []
    errors_s: list[float] = []

    async def pause(manager, name: str, pause_s: float, wait_seen: bool) -> None:
        slot = manager.slots[name]
        os.kill(slot.handle.pid, signal.SIGSTOP)
        if wait_seen:
            await until(slot, lambda slot: slot.state.status is DaemonStatus.PAUSED)
        await asyncio.sleep(pause_s)
        if wait_seen:
            (one,) = manager.status([name])["daemons"]
            assert one["status"] == "paused"
            errors_s.append(abs(one["uptime_s"] - (time.monotonic() - began_s[name])))
        os.kill(slot.handle.pid, signal.SIGCONT)
        await until(slot, lambda slot: slot.state.status is DaemonStatus.RUNNING)
        pauses_s.append(pause_s)

    began_s: dict[str, float] = {}

    async def live(manager, name: str) -> None:
        (one,) = manager.status([name])["daemons"]
        began_s[name] = time.monotonic() - one["uptime_s"]
        for n in range(ROUNDS):
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            await pause(manager, name, chance.uniform(0.0, 0.3), wait_seen=n % 4 != 3)
        await pause(manager, name, LONG_S, wait_seen=True)

    async def play() -> list[dict]:
        async with library(TOML % DAEMONS) as manager:
            assert all(result["ok"] for result in await manager.start())
            before = {name: slot.handle.pid for name, slot in manager.slots.items()}
            await asyncio.gather(*(live(manager, name) for name in before))
            await manager.wait(list(before), until="healthy", timeout_s=10)
            for one in manager.status()["daemons"]:
                assert (one["status"], one["ready"], one["restarts"]) == ("running", True, 0), one
                assert one["pid"] == before[one["name"]]
                assert one["health"]["healthy"] is True, one["health"]
            return manager.events.since(0, 10_000)

    events = asyncio.run(play())
    assert [event for event in events if event["kind"] in ("unhealthy", "alert")] == []
    kinds = [event["status"] for event in events if event["kind"] == "status" and event["daemon"] == "web.1"]
    at = kinds.index("running")
    assert set(kinds[at:-2]) == {"running", "paused"}
    assert all(a != b for a, b in zip(kinds[at:], kinds[at + 1 :], strict=False))
    claim_figure("pauses", len(pauses_s), "")
    claim_figure("uptime wrong by at most", max(errors_s), "s")
    assert max(errors_s) < UPTIME_ERROR_MAX_S
