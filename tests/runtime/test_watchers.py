"""Readiness and health as they are asked for: never two at a time, never of a paused one, ill means a restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from duende.adapters.base import InstanceContinued, InstanceKey, InstancePaused
from duende.config.daemon import HealthCheckConfig, ReadyConfig
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.status import DaemonStatus
from duende.runtime import probes
from tests.runtime.play import Place, daemon, events, run_virtual, settle

NOW = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.0))
CHECK = HealthCheckConfig(tcp="127.0.0.1:1", interval=10.0, timeout=1.0, retries=3, restart=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


class Answers:
    """In the place of every TCP probe: notes when it was asked, and how many asked at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_well = True
        self.takes_s = 0.0
        self.asked_s: list[float] = []
        self.at_once = self.most_at_once = 0
        monkeypatch.setattr(probes, "_tcp", self.ask)

    async def ask(self, address: str) -> None:
        self.asked_s.append(asyncio.get_running_loop().time() - 1000.0)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        if not self.is_well:
            raise probes.ProbeFailed(f"{address}: planted")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def test_three_failures_in_a_row_mean_a_restart(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(health_check=CHECK, restart=NOW))
        await asyncio.sleep(15)
        answers.is_well = False
        await asyncio.sleep(12)  # two failures, then well again: nothing happens
        answers.is_well = True
        await asyncio.sleep(10)
        answers.is_well = False
        await asyncio.sleep(20.5)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(10)
        assert place.world.living() == ["a#2"]
        state = manager.slots["a"].state
        assert state.exit is not None
        assert state.exit.message.startswith("unhealthy: 127.0.0.1:1: planted")
        assert len(events(manager, "unhealthy")) >= 1
        await manager.close()

    run_virtual(scene)


def test_checks_never_overlap_and_a_slow_one_is_a_failure(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        answers.takes_s = 25.0
        slow = HealthCheckConfig(tcp="x:1", interval=1.0, timeout=5.0, retries=3)
        manager = await place.manager(daemon(health_check=slow))
        await asyncio.sleep(100)
        assert answers.most_at_once == 1
        assert not manager.health["a"].is_healthy
        assert "no answer within 5 s" in manager.health["a"].reason
        assert place.world.living() == ["a#1"]  # without `restart` it is only told
        await manager.close()
        assert answers.at_once == 0  # and nothing goes on asking

    run_virtual(scene)


def test_a_paused_daemon_is_not_ill(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(health_check=CHECK, restart=NOW))
        await asyncio.sleep(5)
        assert place.world.adapter is not None
        place.world.adapter.sink(InstancePaused(InstanceKey("a", 1)))
        await settle(manager)
        answers.is_well = False
        asked = len(answers.asked_s)
        await asyncio.sleep(1000)
        assert len(answers.asked_s) <= asked + 1
        assert (manager.slots["a"].state.status, place.world.living()) == (DaemonStatus.PAUSED, ["a#1"])
        answers.is_well = True
        place.world.adapter.sink(InstanceContinued(InstanceKey("a", 1)))
        await asyncio.sleep(60)
        assert len(answers.asked_s) > asked + 1
        assert place.world.living() == ["a#1"]
        await manager.close()

    run_virtual(scene)


def test_readiness_is_polled_until_it_is_there_or_the_time_is_over(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        place.world.awaits_ready = True
        answers.is_well = False
        policy = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=50.0, max_delay=50.0, jitter=0.0))
        manager = await place.manager(daemon(ready=ReadyConfig(tcp="x:1"), start_timeout=30.0, restart=policy))
        await asyncio.sleep(29)
        assert manager.slots["a"].state.status is DaemonStatus.STARTING
        await asyncio.sleep(2)
        state = manager.slots["a"].state
        assert state.status is DaemonStatus.BACKOFF
        assert state.exit is not None
        assert state.exit.message.startswith("not ready within 30 s")
        asked = len(answers.asked_s)
        assert asked == pytest.approx(300, abs=3)
        await asyncio.sleep(40)
        assert len(answers.asked_s) == asked  # nobody to ask
        await asyncio.sleep(20)
        answers.is_well = True
        (ready,) = await manager.wait(["a"], until="ready", timeout_s=10.0)
        assert ready["ok"]
        await manager.close()

    run_virtual(scene)


def test_a_stopped_daemon_is_not_asked_any_more(place: Place, answers: Answers) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(health_check=CHECK))
        await asyncio.sleep(35)
        await manager.stop(["a"])
        asked = len(answers.asked_s)
        assert asked == 4
        await asyncio.sleep(500)
        assert len(answers.asked_s) == asked
        assert manager.status()["daemons"][0]["health"] is None
        await manager.close()

    run_virtual(scene)


REAPING = """
import asyncio, os, subprocess, sys, time
from duende.runtime.reaper import Reaper
async def main():
    ours = subprocess.Popen(["sh", "-c", "exit 5"])
    reaper = Reaper(lambda: {ours.pid})
    reaper.install()
    for _ in range(200):
        subprocess.Popen(["sh", "-c", "sleep 0.01 & exit 0"]).wait()  # its child falls to us
    def zombies():
        found = []
        for pid in open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split():
            found.append((int(pid), open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]))
        return found
    until = time.monotonic() + 20
    while zombies() != [(ours.pid, "Z")] and time.monotonic() < until:
        await asyncio.sleep(0.02)
    print(zombies() == [(ours.pid, "Z")], ours.wait())
    reaper.remove()
asyncio.run(main())
"""


@pytest.mark.real
def test_strangers_are_reaped_and_what_somebody_waits_for_is_left_to_him() -> None:
    done = subprocess.run([sys.executable, "-c", REAPING], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "True 5", done.stdout + done.stderr
