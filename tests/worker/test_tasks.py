"""Tasks that a daemon owns, run in the foreground: ended with it, and their failure is its failure."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import duende
from duende.worker.context import DaemonContext


def daemon_of(run: Callable[..., Any]) -> duende.Daemon:
    """A daemon whose `run` is this function of the context."""
    kind = type("D", (duende.Daemon,), {"run": lambda self, ctx: run(ctx)})
    if asyncio.iscoroutinefunction(run):

        async def async_run(self: Any, ctx: DaemonContext) -> None:
            await run(ctx)

        kind = type("D", (duende.Daemon,), {"run": async_run})
    made: duende.Daemon = kind()
    return made


def test_a_task_is_cancelled_and_awaited_when_run_returns() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)  # its own cleaning up takes turns of the loop
            seen.append("cleaned")

    async def run(ctx: DaemonContext) -> None:
        task = ctx.task(work(), name="work")
        assert (task.name, task.done) == ("work", False)
        await asyncio.sleep(0)
        seen.append("ran")

    assert duende.run(daemon_of(run)) == 0
    assert seen == ["ran", "cleaned"]


def test_a_task_is_cancelled_after_shutdown_at_a_signal(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    class D(duende.Daemon):
        async def run(self, ctx: DaemonContext) -> None:
            ctx.task(self.work, ctx)
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await ctx.wait_shutdown()

        async def work(self, ctx: DaemonContext) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                seen.append("task")

        async def shutdown(self, timeout: float) -> None:
            seen.append("shutdown")

    assert duende.run(D()) == 0
    assert seen == ["shutdown", "task"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_a_failed_task_ends_the_daemon_with_its_traceback(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[bool] = []

    async def work() -> None:
        raise ValueError("no such table")

    def blocking_work() -> None:
        raise ValueError("no such table")

    async def run(ctx: DaemonContext) -> None:
        ctx.task(work if kind == "async" else blocking_work, name="poll")
        seen.append(await ctx.wait_shutdown(20))

    def blocking_run(ctx: DaemonContext) -> None:
        ctx.task(work() if kind == "async" else blocking_work, name="poll")
        seen.append(ctx.wait_shutdown(20))

    for chosen in (run, blocking_run):
        assert duende.run(daemon_of(chosen)) == 1
        said = capfd.readouterr().err
        assert said.count("ValueError: no such table") == 1
        assert "Traceback" in said
        assert "duende: D: task poll has failed, so the daemon ends" in said
    assert seen == [True, True]


def test_an_exit_code_of_a_task_is_that_of_the_daemon() -> None:
    async def work() -> None:
        raise SystemExit(125)

    async def run(ctx: DaemonContext) -> None:
        ctx.task(work)
        await ctx.wait_shutdown()

    assert duende.run(daemon_of(run)) == 125


def test_a_failed_task_that_is_only_logged_is_counted_and_the_daemon_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise ValueError("once")

    async def run(ctx: DaemonContext) -> None:
        task = ctx.task(work, on_error="log")
        assert await task.wait(20)
        assert isinstance(task.error, ValueError)
        assert not ctx.should_shutdown
        assert ctx._scope is not None
        assert ctx._scope.metrics() == {
            "tasks_running": 0, "tasks_begun_total": 1, "tasks_failed_total": 1, "tasks": [],
        }  # fmt: skip

    assert duende.run(daemon_of(run)) == 0
    assert "ValueError: once" in capfd.readouterr().err


def test_a_blocking_task_ends_by_the_context_also_when_run_returns_by_itself() -> None:
    ended = threading.Event()

    def work(ctx: DaemonContext) -> None:
        ctx.wait_shutdown()
        ended.set()

    def run(ctx: DaemonContext) -> None:
        ctx.task(work, ctx)

    assert duende.run(daemon_of(run)) == 0
    assert ended.is_set()


def test_a_blocking_task_that_does_not_end_is_named_and_the_exit_code_is_1(capfd: pytest.CaptureFixture[str]) -> None:
    release = threading.Event()

    def run(ctx: DaemonContext) -> None:
        ctx.task(release.wait, name="deaf")
        os.kill(os.getpid(), signal.SIGTERM)
        ctx.wait_shutdown()

    config = duende.DaemonConfig(name="d", shutdown_timeout=0.3)
    assert duende.run(daemon_of(run), config=config) == 1
    release.set()
    assert "duende: D: not ended in time: task deaf" in capfd.readouterr().err


def test_cancel_ends_one_task_and_is_no_failure() -> None:
    async def run(ctx: DaemonContext) -> None:
        task = ctx.task(asyncio.sleep, 1000)
        task.cancel()  # before its first step
        assert await task.wait(20)
        other = ctx.task(asyncio.sleep(1000))
        await asyncio.sleep(0)
        other.cancel()
        assert await other.wait(20)
        assert (task.name, other.name) == ("sleep", "sleep")

    assert duende.run(daemon_of(run)) == 0


def test_names_are_unique_among_the_running() -> None:
    async def run(ctx: DaemonContext) -> None:
        tasks = [ctx.task(asyncio.sleep, 1000) for _ in range(3)]
        assert [task.name for task in tasks] == ["sleep", "sleep-2", "sleep-3"]
        coroutine = asyncio.sleep(1)
        with pytest.raises(ValueError, match="has a task 'sleep' under way"):
            ctx.task(coroutine, name="sleep")

    assert duende.run(daemon_of(run)) == 0


def test_wrong_uses_say_what_is_wrong() -> None:
    context = DaemonContext(duende.DaemonConfig(name="x"))
    with pytest.raises(RuntimeError, match=r"ctx\.task needs a daemon that runs"):
        context.task(asyncio.sleep, 1)
    kept: list[DaemonContext] = []

    async def run(ctx: DaemonContext) -> None:
        kept.append(ctx)
        with pytest.raises(ValueError, match="on_error is \"end\" or \"log\", not 'ignore'"):
            ctx.task(asyncio.sleep, 1, on_error="ignore")
        with pytest.raises(TypeError, match="a coroutine or something to call, not 3"):
            ctx.task(3)

    assert duende.run(daemon_of(run)) == 0
    with pytest.raises(RuntimeError, match="D is ending: a task can't be begun any more"):
        kept[0].task(asyncio.sleep, 1)


def test_a_thousand_tasks_from_many_threads_all_end() -> None:
    count = 1000
    ended: list[int] = []

    def run(ctx: DaemonContext) -> None:
        async def work(number: int) -> None:
            try:
                await asyncio.sleep(number % 3)
            finally:
                ended.append(number)

        def begin(start: int) -> None:
            for number in range(start, start + count // 10):
                ctx.task(work(number))

        threads = [threading.Thread(target=begin, args=(n * count // 10,)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert duende.run(daemon_of(run)) == 0
    assert sorted(ended) == list(range(count))
