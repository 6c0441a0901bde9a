"""Startup, readiness and liveness apart, and the watchdog: a whole manager in virtual time, with planted answers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import (
    InstanceContinued,
    InstanceKey,
    InstancePaused,
    InstanceReady,
)
from duende.config.daemon import (
    HealthCheckConfig,
    LivenessConfig,
    ProbeAction,
    ProbeConfig,
    ProbesConfig,
    ReadyConfig,
    StartupConfig,
    WatchdogConfig,
)
from duende.config.probes import liveness_of, start_limit_s, startup_of
from duende.core.events import StartRequested
from duende.model.condition import Condition
from duende.model.exits import ExitInfo
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.signals import Signal
from duende.model.status import DaemonStatus
from duende.runtime import probes
from duende.runtime.commands import run_command
from duende.runtime.manager import DaemonManager
from tests.runtime.play import Place, daemon, events, run_virtual, settle

NOW = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.0))
KEY = InstanceKey("a", 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, monkeypatch)
    made.world.awaits_ready = True
    return made


class Answers:
    """In the place of every TCP probe: by address, whether it passes; and who was asked when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: dict[str, bool] = {}
        self.asked: list[str] = []
        self.at_once = 0
        monkeypatch.setattr(probes, "_tcp", self.ask)

    async def ask(self, address: str) -> None:
        self.asked.append(address)
        self.at_once += 1
        try:
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if not self.passes.get(address, True):
            raise probes.ProbeFailed(f"{address}: planted")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def all_three(**liveness: Any) -> ProbesConfig:
    return ProbesConfig(
        StartupConfig(tcp="startup"),
        ProbeConfig(tcp="readiness", interval=1.0, failure_threshold=2, success_threshold=2),
        LivenessConfig(tcp="liveness", interval=1.0, **liveness),
    )


def status(manager: DaemonManager, name: str = "a") -> dict[str, Any]:
    return next(one for one in manager.status()["daemons"] if one["name"] == name)


def say(place: Place, event: Any) -> None:
    assert place.world.adapter is not None
    place.world.adapter.sink(event)


def test_a_slow_start_holds_the_others_back_and_is_no_failure(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        answers.passes = {"startup": False, "liveness": False, "readiness": True}
        manager = await place.manager(daemon(probe=all_three(), start_timeout=600.0, restart=NOW))
        await asyncio.sleep(300)
        assert set(answers.asked) == {"startup"}
        assert place.world.living() == ["a#1"]
        assert "startup probe: startup: planted" in status(manager)["message"]
        answers.passes = {}
        await asyncio.sleep(3)
        assert manager.slots["a"].state.status is DaemonStatus.RUNNING
        assert {"readiness", "liveness"} < set(answers.asked)
        asked = answers.asked.count("startup")
        await asyncio.sleep(60)
        assert answers.asked.count("startup") == asked
        await manager.close()

    run_virtual(scene)


def test_a_startup_threshold_allows_as_much_time_as_it_says(place: Place, answers: Answers) -> None:
    startup = StartupConfig(tcp="startup", interval=10.0, failure_threshold=30, initial_delay=5.0)
    config = daemon(probe=ProbesConfig(startup), start_timeout=60.0, restart=RestartConfig(RestartPolicy.NEVER))
    assert start_limit_s(config) == 305.0
    assert start_limit_s(replace(config, start_timeout=0.0)) == 0.0

    async def scene() -> None:
        answers.passes = {"startup": False}
        manager = await place.manager(config)
        await asyncio.sleep(290)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(6)  # the thirtieth
        state = manager.slots["a"].state
        assert (len(answers.asked), state.status) == (30, DaemonStatus.FAILED)
        assert state.exit is not None
        assert state.exit.message.startswith("unhealthy: startup probe: startup: planted")
        await manager.close()

    run_virtual(scene)


def test_lost_readiness_is_seen_by_those_who_wait_and_nobody_is_killed(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        late = daemon("b", after={"a": Condition.READY}, autostart=False)
        place.world.on_spawn = lambda key: answers.passes.update({"readiness": True}) if key.name == "a" else None
        manager = await place.manager(daemon(probe=all_three()), late)
        await asyncio.sleep(5)
        assert status(manager)["ready"] is True
        answers.passes["readiness"] = False
        await asyncio.sleep(5)
        shown = status(manager)
        assert (shown["status"], shown["ready"]) == ("running", False)
        assert shown["message"] == "not ready: readiness probe: readiness: planted"
        manager._driver.post("b", StartRequested(blocked=True))
        await settle(manager)
        assert status(manager, "b")["waiting_for"] == ["a"]
        assert place.world.living() == ["a#1"]
        answers.passes["readiness"] = True
        await asyncio.sleep(5)
        assert status(manager)["ready"] is True
        assert manager.slots["a"].state.unready_cause == ""
        assert "b#1" in place.world.living()
        assert (events(manager, "unready"), events(manager, "ready")) == (
            ["readiness probe: readiness: planted"],
            ["ready again"],
        )
        await manager.close()

    run_virtual(scene)


def test_its_own_word_and_its_probes_must_agree(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        config = daemon(ready=ReadyConfig(notify=True), probe=all_three())
        answers.passes = {"readiness": False}
        manager = await place.manager(config)
        await asyncio.sleep(10)
        assert set(answers.asked) == {"startup"}  # it has not said anything yet
        say(place, InstanceReady(KEY))
        await asyncio.sleep(10)
        assert status(manager)["status"] == "starting"
        assert {"readiness", "liveness"} < set(answers.asked)
        answers.passes = {}
        await asyncio.sleep(3)
        assert status(manager)["status"] == "running"
        await manager.close()

    run_virtual(scene)


def test_its_own_word_is_kept_for_the_next_manager(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        config = daemon(ready=ReadyConfig(notify=True), probe=all_three(), start_timeout=0.0)
        answers.passes = {"startup": False}
        manager = await place.manager(config)
        say(place, InstanceReady(KEY))
        await settle(manager)
        await place.crash(manager)
        manager = await place.manager(config)
        answers.passes = {}
        await asyncio.sleep(5)
        assert status(manager)["status"] == "running"
        assert place.world.living() == ["a#1"]
        await manager.close()

    run_virtual(scene)


def test_lost_readiness_stays_lost_for_the_next_manager(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(probe=all_three()))
        await asyncio.sleep(5)
        answers.passes = {"readiness": False}
        await asyncio.sleep(5)
        await place.crash(manager)
        asked = answers.asked.count("startup")
        manager = await place.manager(daemon(probe=all_three()))
        await asyncio.sleep(20)
        assert (status(manager)["ready"], status(manager)["status"]) == (False, "running")
        assert answers.asked.count("startup") == asked
        answers.passes = {}
        await asyncio.sleep(5)
        assert status(manager)["ready"] is True
        await manager.close()

    run_virtual(scene)


def test_lost_readiness_outlives_a_pause(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(probe=all_three()))
        await asyncio.sleep(5)
        answers.passes = {"readiness": False}
        await asyncio.sleep(5)
        say(place, InstancePaused(KEY))
        await asyncio.sleep(500)
        say(place, InstanceContinued(KEY))
        await asyncio.sleep(500)  # no deadline of a start is armed: it is not one
        assert (status(manager)["status"], place.world.living()) == ("running", ["a#1"])
        await manager.close()

    run_virtual(scene)


@pytest.mark.parametrize(
    ("action", "did"),
    [
        (ProbeAction.RESTART, "signal 15 a#1"),
        (ProbeAction.TELL, ""),
        (Signal.USR2, "signal 12 a#1"),
    ],
    ids=["restart", "tell", "signal"],
)
def test_what_follows_a_failed_liveness_probe(place: Place, answers: Answers, action: Any, did: str) -> None:
    async def scene() -> None:
        place.world.stubborn = {"a"} if isinstance(action, Signal) else set()
        manager = await place.manager(daemon(probe=all_three(action=action), restart=NOW))
        await asyncio.sleep(5)
        before = len(place.world.did)
        answers.passes = {"liveness": False}
        await asyncio.sleep(4)
        answers.passes = {}
        await asyncio.sleep(4)
        done = place.world.did[before:]
        if action is ProbeAction.RESTART:
            assert did in done
            assert place.world.living() == ["a#2"]
        else:
            assert done == ([did] if did else [])
            assert place.world.living() == ["a#1"]
            assert manager.health["a"].is_healthy
            assert events(manager, "healthy") == [""]
        assert next(text.removeprefix("unhealthy: ") for text in events(manager, "unhealthy")) == "liveness: planted"
        await manager.close()

    run_virtual(scene)


def test_a_daemon_that_dies_of_our_signal_is_said_to_have(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        never = RestartConfig(RestartPolicy.NEVER)
        manager = await place.manager(daemon(probe=all_three(action=Signal.QUIT), restart=never))
        answers.passes = {"liveness": False}
        await asyncio.sleep(5)
        state = manager.slots["a"].state
        assert state.status is DaemonStatus.FAILED
        assert state.exit is not None
        assert state.exit.message.startswith("unhealthy: liveness: planted; killed by SIGQUIT")
        await manager.close()

    run_virtual(scene)


def test_three_of_the_last_five(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(probe=all_three(failure_threshold=3, window=5), restart=NOW))
        await asyncio.sleep(4.5)
        for passes in (False, True, False, True):  # two in five, never two in a row
            answers.passes["liveness"] = passes
            await asyncio.sleep(1)
        assert place.world.living() == ["a#1"]
        answers.passes["liveness"] = False
        await asyncio.sleep(1)
        assert place.world.living() == ["a#2"]
        await manager.close()

    run_virtual(scene)


@pytest.mark.parametrize("how", ["stop", "exit", "restart", "close"])
def test_nothing_is_asked_of_a_daemon_that_is_gone(place: Place, answers: Answers, how: str) -> None:
    async def scene() -> None:
        config = daemon(probe=all_three(), watchdog=WatchdogConfig(1e6), restart=RestartConfig(RestartPolicy.NEVER))
        manager = await place.manager(config)
        await asyncio.sleep(5)
        match how:
            case "stop":
                await manager.stop(["a"])
            case "exit":
                place.world.end(KEY, ExitInfo.from_code(0))
                await settle(manager)
            case "restart":
                await manager.restart(["a"])
            case _:
                await manager.close()
        await asyncio.sleep(0)
        tasks = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("probes of")]
        assert tasks == (["probes of a#2"] if how == "restart" else [])
        asked = len(answers.asked)
        await asyncio.sleep(100)
        assert answers.at_once == 0
        assert (len(answers.asked) > asked) is (how == "restart")
        if how != "close":
            await manager.close()

    run_virtual(scene)


def test_an_answer_that_spans_a_pause_says_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(address: str) -> None:
        await asyncio.Future()

    async def scene() -> None:
        probe = LivenessConfig(tcp="x", interval=1.0, timeout=5.0, failure_threshold=1)
        place.world.awaits_ready = False
        monkeypatch.setattr(probes, "_tcp", never)
        manager = await place.manager(daemon(probe=ProbesConfig(liveness=probe), restart=NOW))
        await asyncio.sleep(4)
        say(place, InstancePaused(KEY))
        await asyncio.sleep(100)
        assert place.world.living() == ["a#1"]
        monkeypatch.setattr(probes, "_tcp", _fine)
        say(place, InstanceContinued(KEY))
        await asyncio.sleep(50)
        assert (place.world.living(), events(manager, "unhealthy")) == (["a#1"], [])
        await manager.close()

    run_virtual(scene)


async def _fine(address: str) -> None:
    """Passes."""


def test_one_that_has_just_gone_on_may_still_be_busy(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        probe = LivenessConfig(tcp="x", interval=1.0, timeout=5.0, failure_threshold=1)
        place.world.awaits_ready = False
        manager = await place.manager(daemon(probe=ProbesConfig(liveness=probe), restart=NOW))
        await asyncio.sleep(3)
        say(place, InstancePaused(KEY))
        await asyncio.sleep(100)
        answers.passes = {"x": False}
        say(place, InstanceContinued(KEY))
        await asyncio.sleep(4.5)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(2)
        assert "a#1" not in place.world.living()
        await manager.close()

    run_virtual(scene)


# --- one probe


async def _run(argv: Sequence[str]) -> None:
    await run_command(argv, dict(os.environ), "/")


def _asked(probe: ProbeConfig, silent_s: float = 0.0, timeout_s: float = 5.0) -> Any:
    async def main() -> Any:
        question = probes.probe_of(probe, _run, lambda: silent_s)
        assert question is not None
        return await probes.measured(question, timeout_s)

    return asyncio.run(main())


@pytest.mark.real
@pytest.mark.parametrize("abstract", [False, True])
def test_a_unix_socket_accepts_or_not(tmp_path: Path, abstract: bool) -> None:
    name = f"@duende-test-{os.getpid()}" if abstract else str(tmp_path / "s")
    assert not _asked(ProbeConfig(unix=name)).is_healthy
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name[1:] if abstract else name)
        listener.listen()
        assert _asked(ProbeConfig(unix=name)).is_healthy


def test_the_age_of_the_last_line() -> None:
    assert _asked(LivenessConfig(log_age=60.0), silent_s=59.0).is_healthy
    answer = _asked(LivenessConfig(log_age=60.0), silent_s=61.0)
    assert answer.reason == "no output for 61.0 s, more than 60 s"


@pytest.mark.real
@pytest.mark.parametrize("how", ["sh -c 'sleep 1000 & echo $! > {}; wait'", "setsid sh -c 'echo $$ > {}; sleep 1000'"])
def test_a_probe_command_that_takes_too_long_ends_with_all_its_children(tmp_path: Path, how: str) -> None:
    """Also with one that has left its process group."""
    file = tmp_path / "pid"
    answer = _asked(ProbeConfig(exec=("sh", "-c", f"{how.format(file)} & wait")), timeout_s=1.0)
    assert "no answer within 1 s" in answer.reason
    pid = int(file.read_text())
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return
    if state not in "ZX":
        os.kill(pid, signal.SIGKILL)
        raise AssertionError("the probe's child goes on")


def test_short_forms_are_probes() -> None:
    config = daemon(
        ready=ReadyConfig(tcp="x:1", interval=2.0),
        health_check=HealthCheckConfig(unix="@a", retries=4, interval=7.0, timeout=2.0, restart=True),
    )
    assert startup_of(config) == StartupConfig(tcp="x:1", interval=2.0, timeout=2.0)
    assert liveness_of(config) == LivenessConfig(
        unix="@a", failure_threshold=4, interval=7.0, timeout=2.0, action=ProbeAction.RESTART
    )
    off = replace(config, health_check=replace(config.health_check, enabled=False))
    assert liveness_of(off) is None
    assert liveness_of(daemon()) is None
