"""Children of a daemon, run in the foreground: restarts, groups, giving up, the order of their end."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
from typing import Any

import pytest

import duende
from duende import BackoffConfig, DaemonContext, DaemonStatus, HealthStatus, RestartConfig, RestartPolicy
from tests.worker.test_tasks import daemon_of

FAST = RestartConfig(policy=RestartPolicy.ON_FAILURE, backoff=BackoffConfig(initial_delay=0.01, jitter=0.0))


class Service(duende.Daemon):
    """Writes what happens to it into `told`."""

    def __init__(self, told: list[str], name: str) -> None:
        self.told, self.short = told, name

    async def init(self, config: duende.DaemonConfig) -> None:
        self.told.append(f"{self.short} init")
        self.end = asyncio.Event()

    async def run(self, ctx: DaemonContext) -> None:
        await self.end.wait()

    async def shutdown(self, timeout: float) -> None:
        self.told.append(f"{self.short} shutdown")
        self.end.set()


class Blocking(Service):
    """The same with threads."""

    def init(self, config: duende.DaemonConfig) -> None:  # type: ignore[override]
        self.told.append(f"{self.short} init")
        self.stop = threading.Event()

    def run(self, ctx: DaemonContext) -> None:  # type: ignore[override]
        self.stop.wait()

    def shutdown(self, timeout: float) -> None:  # type: ignore[override]
        self.told.append(f"{self.short} shutdown")
        self.stop.set()


@pytest.mark.parametrize("kind", [Service, Blocking])
def test_children_are_stopped_in_reverse_order(kind: type[Service]) -> None:
    told: list[str] = []

    async def run(ctx: DaemonContext) -> None:
        for name in "abc":
            assert await ctx.supervise(name, functools.partial(kind, told, name)).wait_ready(20)
        os.kill(os.getpid(), signal.SIGTERM)
        await ctx.wait_shutdown()

    assert duende.run(daemon_of(run)) == 0
    assert told == ["a init", "b init", "c init", "c shutdown", "b shutdown", "a shutdown"]


def test_they_are_stopped_too_when_run_returns_and_from_a_blocking_run() -> None:
    told: list[str] = []

    def run(ctx: DaemonContext) -> None:
        for name in "ab":
            assert ctx.supervise(name, functools.partial(Blocking, told, name)).wait_ready(20)

    assert duende.run(daemon_of(run)) == 0
    assert told == ["a init", "b init", "b shutdown", "a shutdown"]


@pytest.mark.parametrize("blocking", [False, True])
def test_a_child_that_fails_is_started_again_with_backoff(blocking: bool, capfd: pytest.CaptureFixture[str]) -> None:
    lives: list[str] = []

    async def work(ctx: DaemonContext) -> None:
        lives.append(ctx.config.name)
        if len(lives) < 3:
            raise OSError("connection refused")
        await ctx.wait_shutdown()

    def blocking_work(ctx: DaemonContext) -> None:
        lives.append(ctx.config.name)
        if len(lives) < 3:
            raise OSError("connection refused")
        ctx.wait_shutdown()

    async def run(ctx: DaemonContext) -> None:
        child = ctx.supervise("poll", blocking_work if blocking else work, restart=FAST)
        while child.restarts < 2 or not child.ready:
            await ctx.sleep(0.005)
        assert child.message == "OSError: connection refused"
        assert child.status is DaemonStatus.RUNNING

    assert duende.run(daemon_of(run)) == 0
    assert lives == ["D/poll"] * 3
    said = capfd.readouterr().err
    assert said.count("OSError: connection refused\n") == 2
    assert "duende: D: child poll: OSError: connection refused; try 2 in 0.0 s" in said


def test_a_child_that_is_given_up_ends_the_daemon(capfd: pytest.CaptureFixture[str]) -> None:
    rules = RestartConfig(backoff=BackoffConfig(initial_delay=0.0, max_retries=2))
    lives: list[int] = []

    async def work(ctx: DaemonContext) -> None:
        lives.append(1)
        raise OSError("no")

    async def run(ctx: DaemonContext) -> None:
        ctx.supervise("poll", work, restart=rules)
        assert await ctx.wait_shutdown(20)

    assert duende.run(daemon_of(run)) == 1
    assert len(lives) == 3
    said = capfd.readouterr().err
    assert "duende: D: child poll: OSError: no; not started again (max retries)" in said
    assert "duende: D: child poll has failed, so the daemon ends" in said


def test_one_that_is_not_essential_is_only_unhealthy() -> None:
    async def work(ctx: DaemonContext) -> None:
        raise OSError("no")

    async def run(ctx: DaemonContext) -> None:
        child = ctx.supervise("poll", work, restart="never", essential=False)
        assert await child.wait_ended(20)
        assert child.status is DaemonStatus.FAILED
        assert not ctx.should_shutdown
        scope: Any = ctx._scope
        assert await scope.unhealthy() == "child poll: failed: OSError: no"
        assert scope.summary() == "0 of 1 children running; poll failed: OSError: no"
        assert scope.metrics()["children"]["poll"] == {
            "status": "failed", "ready": False, "restarts": 0, "message": "OSError: no",
        }  # fmt: skip

    assert duende.run(daemon_of(run)) == 0


def test_a_permanent_exit_code_and_bad_settings_are_not_tried_again() -> None:
    lives: list[int] = []

    async def work(ctx: DaemonContext) -> None:
        lives.append(1)
        raise SystemExit(125)

    async def run(ctx: DaemonContext) -> None:
        ctx.supervise("poll", work, restart=FAST)
        await ctx.wait_shutdown(20)

    assert duende.run(daemon_of(run)) == 1
    assert lives == [1]


def test_a_child_that_ends_well_has_ended_and_start_begins_it_again() -> None:
    lives: list[int] = []

    async def work(ctx: DaemonContext) -> None:
        lives.append(1)

    async def run(ctx: DaemonContext) -> None:
        child = ctx.supervise("once", work)
        assert await child.wait_ended(20)
        assert (child.status, lives) == (DaemonStatus.STOPPED, [1])
        child.start()
        while len(lives) < 2:
            await ctx.sleep(0.005)

    assert duende.run(daemon_of(run)) == 0


def _three(
    ctx: DaemonContext, told: list[str], fail: dict[str, asyncio.Event], group: str, restart: RestartConfig
) -> list[Any]:
    def make(name: str) -> Any:
        async def work(inner: DaemonContext) -> None:
            told.append(f"+{name}")
            fail[name] = asyncio.Event()
            stop = asyncio.ensure_future(inner.wait_shutdown())
            broken = asyncio.ensure_future(fail[name].wait())
            await asyncio.wait({stop, broken}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            broken.cancel()
            if not fail[name].is_set():
                await asyncio.sleep(0.02)  # the scene: to stop takes a while
            told.append(f"-{name}")
            if fail[name].is_set():
                raise OSError(name)

        return work

    return [ctx.supervise(name, make(name), restart=restart, group=group) for name in "abc"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", "+a +b +c -b +b"),
        ("one_for_all", "+a +b +c -b -c -a +b +a +c"),
        ("rest_for_one", "+a +b +c -b -c +b +c"),
    ],
)
@pytest.mark.parametrize("delay_s", [0.0, 0.01])
def test_the_strategies_restart_whom_they_say_in_order(strategy: str, expected: str, delay_s: float) -> None:
    rules = RestartConfig(backoff=BackoffConfig(initial_delay=delay_s, jitter=0.0))
    told: list[str] = []
    fail: dict[str, asyncio.Event] = {}

    async def run(ctx: DaemonContext) -> None:
        ctx.group("g", strategy)
        children = _three(ctx, told, fail, "g", rules)
        while len(told) < 3:
            await ctx.sleep(0.005)
        fail["b"].set()
        while " ".join(told) != expected and not ctx.should_shutdown:
            await ctx.sleep(0.005)
        assert all([await child.wait_ready(20) for child in children])
        told.append("|")

    task_limit = threading.Timer(20, lambda: os.kill(os.getpid(), signal.SIGTERM))
    task_limit.start()
    assert duende.run(daemon_of(run)) == 0
    task_limit.cancel()
    assert " ".join(told) == f"{expected} | -c -b -a"


def test_each_of_a_group_is_started_again_when_the_one_before_is_ready() -> None:
    told: list[str] = []
    broken = asyncio.Event()

    class Slow(duende.Daemon):
        def __init__(self, short: str) -> None:
            self.short = short

        async def init(self, config: duende.DaemonConfig) -> None:
            told.append(f"{self.short}...")
            await asyncio.sleep(0.01)  # the scene: a slow start
            told.append(self.short)

        async def run(self, ctx: DaemonContext) -> None:
            if self.short == "a" and not broken.is_set():
                await broken.wait()
                raise OSError("no")
            await ctx.wait_shutdown()

    async def run(ctx: DaemonContext) -> None:
        ctx.group("g", "one_for_all")
        children = [ctx.supervise(name, functools.partial(Slow, name), restart=FAST, group="g") for name in "abcd"]
        for child in children:
            assert await child.wait_ready(20)
        told.clear()
        broken.set()
        while len(told) < 8:
            await ctx.sleep(0.005)

    assert duende.run(daemon_of(run)) == 0
    assert told == ["a...", "a", "b...", "b", "c...", "c", "d...", "d"]


def test_a_group_with_too_many_restarts_is_given_up_and_ends_the_daemon(capfd: pytest.CaptureFixture[str]) -> None:
    lives: list[str] = []

    async def work(ctx: DaemonContext) -> None:
        lives.append(ctx.config.name)
        raise OSError("no")

    async def steady(ctx: DaemonContext) -> None:
        await ctx.wait_shutdown()

    async def run(ctx: DaemonContext) -> None:
        ctx.group("g", intensity=2, period=30.0)
        ctx.supervise("steady", steady, group="g")
        ctx.supervise("poll", work, group="g", restart=RestartConfig(backoff=BackoffConfig(initial_delay=0.0)))
        assert await ctx.wait_shutdown(20)

    assert duende.run(daemon_of(run)) == 1
    assert len(lives) == 3
    said = capfd.readouterr().err
    assert "group 'g' is given up: more than 2 restarts in 30 s; last: child poll: OSError: no" in said


def test_a_group_of_intensity_0_starts_nothing_again_and_can_be_started_by_hand() -> None:
    made: list[duende.Daemon] = []

    class Poll(duende.Daemon):
        def __init__(self) -> None:
            made.append(self)

        async def run(self, ctx: DaemonContext) -> None:
            if len(made) == 1:
                raise OSError("no")
            await ctx.wait_shutdown()

    async def run(ctx: DaemonContext) -> None:
        ctx.group("g", intensity=0)
        rules = RestartConfig(backoff=BackoffConfig(initial_delay=0.0))
        child = ctx.supervise("poll", Poll, group="g", restart=rules, essential=False)
        assert await child.wait_ended(20)
        assert (child.status, len(made)) == (DaemonStatus.STOPPED, 1)
        child.start()
        assert await child.wait_ready(20)

    assert duende.run(daemon_of(run)) == 0
    assert len(made) == 2


def test_a_child_that_is_cancelled_late_by_the_daemons_own_deadline_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    async def deaf(ctx: DaemonContext) -> None:
        await asyncio.sleep(1000)

    async def run(ctx: DaemonContext) -> None:
        assert await ctx.supervise("deaf", deaf, shutdown_timeout=30.0).wait_ready(20)
        os.kill(os.getpid(), signal.SIGTERM)
        await ctx.wait_shutdown()

    assert duende.run(daemon_of(run), config=duende.DaemonConfig(name="d", shutdown_timeout=0.5)) == 0
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "duende: D/deaf: run() has not ended" in said
    assert "; it is cancelled" in said


def test_a_stop_and_a_restart_by_hand() -> None:
    told: list[str] = []

    async def run(ctx: DaemonContext) -> None:
        child = ctx.supervise("a", functools.partial(Service, told, "a"))
        assert await child.wait_ready(20)
        child.restart()
        while told.count("a init") < 2:
            await ctx.sleep(0.005)
        child.stop()
        assert await child.wait_ended(20)
        assert (child.status, child.restarts) == (DaemonStatus.STOPPED, 0)

    assert duende.run(daemon_of(run)) == 0
    assert told == ["a init", "a shutdown", "a init", "a shutdown"]


def test_a_failed_init_is_a_failure_of_the_child_and_its_health_check_is_asked() -> None:
    class Sick(duende.Daemon):
        tries = 0

        def init(self, config: duende.DaemonConfig) -> None:
            type(self).tries += 1
            if self.tries == 1:
                raise OSError("not yet")

        async def run(self, ctx: DaemonContext) -> None:
            await ctx.wait_shutdown()

        def health_check(self) -> HealthStatus:
            return HealthStatus.unhealthy("queue is full")

    async def run(ctx: DaemonContext) -> None:
        child = ctx.supervise("sick", Sick, restart=FAST)
        assert await child.wait_ready(20)
        assert child.restarts == 1
        scope: Any = ctx._scope
        assert await scope.unhealthy() == "child sick: queue is full"

    assert duende.run(daemon_of(run)) == 0


def test_a_child_that_ignores_its_stop_is_cancelled_and_the_others_still_end(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    async def deaf(ctx: DaemonContext) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            told.append("deaf cancelled")

    async def run(ctx: DaemonContext) -> None:
        ctx.supervise("a", functools.partial(Service, told, "a"))
        assert await ctx.supervise("deaf", deaf, shutdown_timeout=0.1).wait_ready(20)
        os.kill(os.getpid(), signal.SIGTERM)
        await ctx.wait_shutdown()

    assert duende.run(daemon_of(run)) == 0
    assert told == ["a init", "deaf cancelled", "a shutdown"]
    assert "duende: D/deaf: run() has not ended 0.1 s after SIGTERM; it is cancelled" in capfd.readouterr().err


def test_a_thread_that_never_ends_is_never_doubled_and_named_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    release, begun = threading.Event(), []

    def deaf(ctx: DaemonContext) -> None:
        begun.append(1)
        release.wait()

    async def run(ctx: DaemonContext) -> None:
        child = ctx.supervise("deaf", deaf, shutdown_timeout=0.05)
        assert await child.wait_ready(20)
        child.restart()
        await ctx.sleep(0.3)  # nothing happens: there must not be a second one
        assert begun == [1]
        os.kill(os.getpid(), signal.SIGTERM)
        await ctx.wait_shutdown()

    assert duende.run(daemon_of(run), config=duende.DaemonConfig(name="d", shutdown_timeout=0.3)) == 1
    release.set()
    assert "not ended in time: child deaf" in capfd.readouterr().err


def test_children_have_tasks_and_children_of_their_own() -> None:
    told: list[str] = []

    async def leaf(ctx: DaemonContext) -> None:
        told.append(ctx.config.name)
        await ctx.wait_shutdown()
        told.append("leaf ended")

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            told.append("task ended")

    async def middle(ctx: DaemonContext) -> None:
        assert await ctx.supervise("leaf", leaf).wait_ready(20)
        ctx.task(work)
        await ctx.wait_shutdown()
        told.append("middle asked")

    async def run(ctx: DaemonContext) -> None:
        ctx.supervise("middle", middle)
        while not told:
            await ctx.sleep(0.005)

    assert duende.run(daemon_of(run)) == 0
    assert told == ["D/middle/leaf", "middle asked", "task ended", "leaf ended"]


def test_wrong_uses_say_what_is_wrong() -> None:
    async def run(ctx: DaemonContext) -> None:
        async def fine(inner: DaemonContext) -> None:
            await inner.wait_shutdown()

        ctx.supervise("a", fine)
        with pytest.raises(ValueError, match="a child needs a name of its own"):
            ctx.supervise("a", fine)
        with pytest.raises(ValueError, match="there is no group 'g'"):
            ctx.supervise("b", fine, group="g")
        with pytest.raises(ValueError, match=r"one of never, on-failure, always.*not 'sometimes'"):
            ctx.supervise("b", fine, restart="sometimes")
        with pytest.raises(TypeError, match="needs the class Service, not an instance"):
            ctx.supervise("b", Service([], "b"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"derived from duende\.Daemon, not dict"):
            ctx.supervise("b", dict)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="with the child's context, but: too many positional arguments"):
            ctx.supervise("b", lambda: None)  # type: ignore[arg-type,misc]
        with pytest.raises(ValueError, match="one_for_one, one_for_all, rest_for_one, not 'all'"):
            ctx.group("g", "all")
        with pytest.raises(ValueError, match="intensity is 0 or more"):
            ctx.group("g", intensity=-1)

    assert duende.run(daemon_of(run)) == 0


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_none_is_doubled_the_wanted_run_and_none_is_left(seed: int) -> None:
    chance = random.Random(seed)
    alive: dict[str, list[asyncio.Event]] = {}
    stopped: set[str] = set()

    def make(name: str) -> Any:
        async def work(ctx: DaemonContext) -> None:
            broken = asyncio.Event()
            mine = alive.setdefault(name, [])
            mine.append(broken)
            assert len(mine) == 1, f"two incarnations of {name}"
            stop = asyncio.ensure_future(ctx.wait_shutdown())
            failure = asyncio.ensure_future(broken.wait())
            try:
                await asyncio.wait({stop, failure}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                failure.cancel()
                await asyncio.sleep(chance.choice([0.0, 0.002]))  # the scene: some take longer to end
            finally:
                mine.remove(broken)
            if broken.is_set():
                raise OSError(name)

        return work

    async def run(ctx: DaemonContext) -> None:
        children = []
        for group in ("one_for_one", "one_for_all", "rest_for_one"):
            ctx.group(group, group)
            for number in range(4):
                delay_s = chance.choice([0.0, 0.003])
                rules = RestartConfig(backoff=BackoffConfig(initial_delay=delay_s, max_delay=0.003, multiplier=1.0))
                name = f"{group}-{number}"
                children.append(ctx.supervise(name, make(name), restart=rules, group=group))
        for _ in range(80):
            child = chance.choice(children)
            match chance.randrange(6):
                case 0:
                    child.stop()
                    stopped.add(child.name)
                case 1:
                    child.start()
                    stopped.discard(child.name)
                case 2:
                    child.restart()
                    stopped.discard(child.name)
                case _:
                    for broken in alive.get(child.name, []):
                        broken.set()
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.001, 0.01]))
        for child in children:
            if child.name not in stopped:
                assert await child.wait_ready(5), f"seed {seed}: {children}"
        for child in children:
            if child.name in stopped:
                assert await child.wait_ended(5), f"seed {seed}: {children}"

    assert duende.run(daemon_of(run)) == 0
    assert not any(alive.values())
