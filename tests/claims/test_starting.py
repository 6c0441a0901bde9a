"""F001, F011: how quickly a daemon starts, and how many run at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.claims.library import is_alive, percentile
from tests.harness import Stack

STARTS = 1000
P99_MAX_MS = 100.0
MANY = 100

MINIMAL = """\
from duende import Daemon

class Minimal(Daemon):
    async def run(self, ctx):
        await ctx.wait_shutdown()
"""


@pytest.mark.claim("F001")
def test_native_start_is_quick(stack: Stack, library, claim_figure) -> None:
    """From the manager's call to the class's own word that it is ready; the start of the warm process counts too."""
    stack.file("minimal.py", MINIMAL)
    took_ms = []

    async def play() -> None:
        async with library('[daemon.one]\ndaemon = "minimal:Minimal"\nautostart = false\n') as manager:
            slot = manager.slots["one"]
            for n in range(STARTS):
                began_s = time.perf_counter()
                (result,) = await manager.start(["one"])
                took_ms.append((time.perf_counter() - began_s) * 1000.0)
                assert result["ok"]
                assert slot.state.ready
                assert slot.state.instance == n + 1
                assert is_alive(slot.handle.pid)
                await manager.kill(["one"])

    asyncio.run(play())
    claim_figure("median startup", percentile(took_ms, 0.5), "ms")
    claim_figure("p99 startup", percentile(took_ms, 0.99), "ms")
    claim_figure("slowest", max(took_ms), "ms")
    assert percentile(took_ms, 0.99) < P99_MAX_MS


@pytest.mark.claim("F011")
def test_many_run_at_once(stack: Stack, claim_figure) -> None:
    """Half Python classes, half commands that say when they are ready; counted by the kernel too."""
    stack.file("minimal.py", MINIMAL)
    half = MANY // 2
    notify = (
        "import os,socket,time;s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);"
        "s.sendto(b'READY=1',os.environ['NOTIFY_SOCKET']);time.sleep(1000)"
    )
    stack.write(f"""
[daemon.class]
daemon = "minimal:Minimal"
replicas = {half}

[daemon.command]
command = ["python3", "-I", "-S", "-c", "{notify}"]
ready = {{ notify = true }}
replicas = {MANY - half}
""")
    began_s = time.monotonic()
    stack.up()
    claim_figure(f"{MANY} daemons ready after", time.monotonic() - began_s, "s")
    daemons = stack.status()["daemons"]
    assert len(daemons) == MANY
    assert {(one["status"], one["ready"], one["restarts"]) for one in daemons} == {("running", True, 0)}
    pids = {one["pid"] for one in daemons}
    assert len(pids) == MANY
    assert all(is_alive(pid) for pid in pids)
    assert stack.run("down", timeout_s=60).returncode == 0
    assert not [pid for pid in pids if is_alive(pid)]
