"""Shutdown in real processes: within its time, named when it is not, and a certain end in any case."""

from __future__ import annotations

import signal
import time

import pytest

pytestmark = pytest.mark.real


def _stop(instance, number: int = signal.SIGTERM) -> float:
    started_s = time.monotonic()
    instance.signal(number)
    instance.event("stopping")
    instance.wait()
    return time.monotonic() - started_s


def test_shutdown_is_called_while_run_goes_on_so_that_it_can_end_it(start):
    source = """
class D(duende.Daemon):
    async def init(self, config): self.closed = asyncio.Event()
    async def run(self, ctx): await self.closed.wait()
    async def shutdown(self, timeout): self.closed.set()
"""
    instance = start(source)
    instance.event("ready")
    assert _stop(instance) < 5
    assert instance.wait() == 0


def test_a_blocking_shutdown_ends_a_blocking_run(start):
    source = """
class D(duende.Daemon):
    def init(self, config): self.closed = threading.Event()
    def run(self, ctx): self.closed.wait()
    def shutdown(self, timeout): self.closed.set()
"""
    instance = start(source)
    instance.event("ready")
    assert _stop(instance) < 5
    assert instance.wait() == 0


def test_an_async_run_that_ignores_shutdown_is_cancelled_and_named(start):
    source = """
class D(duende.Daemon):
    async def run(self, ctx):
        try: await asyncio.sleep(1000)
        finally: print("cleaned")
"""
    instance = start(source, shutdown_timeout_s=1.0)
    instance.event("ready")
    assert 0.7 < _stop(instance) < 1.0
    assert instance.wait() == 1
    assert instance.stdout == "cleaned\n"
    assert "duende: web: run() has not ended 0.8 s after SIGTERM; it is cancelled\n" in instance.stderr


def test_a_run_that_swallows_its_cancellation_ends_with_the_process(start):
    source = """
class D(duende.Daemon):
    async def run(self, ctx):
        while True:
            try: await asyncio.sleep(1000)
            except asyncio.CancelledError: print("no")
"""
    instance = start(source, shutdown_timeout_s=1.0)
    instance.event("ready")
    assert _stop(instance) < 1.0
    assert instance.wait() == 1
    assert "run() has not ended 0.9 s after SIGTERM\n" in instance.stderr


def test_a_run_that_awaits_signals_for_ever_does_not_starve_the_end(start):
    source = """
class D(duende.Daemon):
    async def run(self, ctx):
        while True: await ctx.recv_signal()
"""
    instance = start(source, shutdown_timeout_s=1.0)
    instance.event("ready")
    assert _stop(instance) < 1.0
    assert instance.wait() == 1


def test_a_blocking_run_that_ignores_shutdown_is_named(start):
    instance = start("class D(duende.Daemon):\n def run(self, ctx): time.sleep(1000)", shutdown_timeout_s=1.0)
    instance.event("ready")
    assert 0.8 < _stop(instance) < 1.0
    assert instance.wait() == 1
    assert "run() has not ended 0.9 s after SIGTERM\n" in instance.stderr


@pytest.mark.parametrize(("kind", "sleep"), [("def", "time.sleep"), ("async def", "await asyncio.sleep")])
def test_a_shutdown_that_is_too_slow_is_named(start, kind, sleep):
    source = f"""
class D(duende.Daemon):
    async def run(self, ctx): await ctx.wait_shutdown()
    {kind} shutdown(self, timeout): {sleep}(1000)
"""
    instance = start(source, shutdown_timeout_s=1.0)
    instance.event("ready")
    assert _stop(instance) < 1.0
    assert instance.wait() == 1
    assert "shutdown() has not ended" in instance.stderr
    assert "run()" not in instance.stderr


def test_an_exception_in_shutdown_is_a_traceback_and_exit_code_1_and_run_still_ends(start):
    source = """
class D(duende.Daemon):
    def run(self, ctx): ctx.wait_shutdown(); ctx.sleep(0.0); print("ran")
    def shutdown(self, timeout): raise OSError("socket")
"""
    instance = start(source)
    instance.event("ready")
    _stop(instance)
    assert instance.wait() == 1
    assert instance.stdout == "ran\n"
    assert "OSError: socket" in instance.stderr


def test_further_signals_hasten_nothing(start):
    source = """
class D(duende.Daemon):
    async def run(self, ctx):
        await ctx.wait_shutdown()
        print("stopping", await ctx.recv_signal())
        while (number := await ctx.recv_signal(5)) is None: await asyncio.sleep(0.01)
        print("then", number)
"""
    instance = start(source)
    instance.event("ready")
    instance.signal(signal.SIGTERM)
    instance.until("stopping 15\n")
    instance.signal(signal.SIGINT)
    assert instance.wait() == 0
    assert instance.stdout == "stopping 15\nthen 2\n"


def test_a_stop_during_an_async_init_cancels_it(start):
    source = """
class D(duende.Daemon):
    async def init(self, config):
        print("in init")
        try: await asyncio.sleep(1000)
        finally: print("cleaned")
    async def run(self, ctx): print("ran")
    async def shutdown(self, timeout): print("shutdown")
"""
    instance = start(source)
    instance.until("in init\n")
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert instance.stdout == "in init\ncleaned\n"


@pytest.mark.parametrize("run", ["def", "async def"])
def test_a_stop_during_a_blocking_init_waits_for_it_and_skips_run(start, run, tmp_path):
    go = tmp_path / "go"
    source = f"""
class D(duende.Daemon):
    def init(self, config):
        print("in init")
        while not os.path.exists({str(go)!r}): time.sleep(0.01)  # blocking, until the signal has been sent
    {run} run(self, ctx): print("ran")
    {run} shutdown(self, timeout): print("shutdown")
"""
    instance = start(source)
    instance.until("in init\n")
    instance.signal(signal.SIGTERM)
    go.touch()
    assert instance.wait() == 0
    assert instance.stdout == "in init\nshutdown\n"


def test_tasks_left_behind_are_cancelled(start):
    source = """
class D(duende.Daemon):
    async def run(self, ctx):
        async def leftover():
            try: await asyncio.sleep(1000)
            finally: print("cleaned")
        self.task = asyncio.create_task(leftover())
        await asyncio.sleep(0)
"""
    instance = start(source)
    assert instance.wait() == 0
    assert instance.stdout == "cleaned\n"


def test_init_and_run_share_a_thread_when_both_block(start):
    source = """
import sqlite3
class D(duende.Daemon):
    def init(self, config): self.db = sqlite3.connect(":memory:")
    def run(self, ctx): print(self.db.execute("select 1").fetchone(), threading.current_thread().name)
"""
    instance = start(source)
    assert instance.wait() == 0, instance.stderr
    assert instance.stdout == "(1,) duende-run\n"
