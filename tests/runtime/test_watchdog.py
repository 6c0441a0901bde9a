"""The watchdog, and more time on request: a whole manager in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import (
    InstanceAlive,
    InstanceAsksTime,
    InstanceContinued,
    InstanceKey,
    InstancePaused,
    InstanceReady,
    InstanceWatchdog,
)
from duende.config.daemon import DaemonConfig, ProbeAction, ReadyConfig, WatchdogConfig
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from tests.runtime.play import Place, daemon, events, run_virtual, settle

NOW = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.0))
KEY = InstanceKey("a", 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, monkeypatch)
    made.world.awaits_ready = True
    return made


def say(place: Place, event: Any) -> None:
    assert place.world.adapter is not None
    place.world.adapter.sink(event)


def watched(**more: Any) -> DaemonConfig:
    return daemon(ready=ReadyConfig(notify=True), watchdog=WatchdogConfig(10.0, **more), restart=NOW)


def ping(place: Place, **more: Any) -> None:
    say(place, InstanceAlive(KEY, asyncio.get_running_loop().time(), **more))


def test_a_silent_daemon_is_restarted_and_its_exit_says_why(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        await asyncio.sleep(50)  # a slow start is not a silence
        say(place, InstanceReady(KEY))
        for _ in range(20):
            await asyncio.sleep(9)
            ping(place)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(9.9)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(0.2)
        state = manager.slots["a"].state
        assert place.world.living() == ["a#2"]
        assert state.exit is not None
        assert state.exit.message.startswith("unhealthy: no sign of life (WATCHDOG=1) for 10 s")
        await manager.close()

    run_virtual(scene)


def test_trigger_is_taken_at_its_word(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        say(place, InstanceReady(KEY))
        await asyncio.sleep(1)
        ping(place, is_trouble=True)
        await settle(manager)
        assert place.world.living() == ["a#2"]
        await manager.close()

    run_virtual(scene)


def test_it_is_only_told_and_told_when_it_is_over(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched(action=ProbeAction.TELL))
        say(place, InstanceReady(KEY))
        await asyncio.sleep(35)
        assert place.world.living() == ["a#1"]
        assert not manager.health["a"].is_healthy
        assert events(manager, "unhealthy") == ["no sign of life (WATCHDOG=1) for 10 s"]
        ping(place)
        await settle(manager)
        assert manager.health["a"].is_healthy
        assert len(events(manager, "healthy")) == 1
        await manager.close()

    run_virtual(scene)


def test_a_manager_that_stood_still_does_not_take_that_for_silence(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        say(place, InstanceReady(KEY))
        await asyncio.sleep(1)
        loop: Any = asyncio.get_running_loop()
        loop.now_s += 3600.0  # as after SIGSTOP and SIGCONT, or a suspended machine whose clock went on
        await asyncio.sleep(5)
        assert place.world.living() == ["a#1"]
        ping(place)
        await asyncio.sleep(9)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(2)
        assert place.world.living() == ["a#2"]
        await manager.close()

    run_virtual(scene)


def test_a_new_manager_begins_to_count_anew(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        say(place, InstanceReady(KEY))
        await asyncio.sleep(9)
        await place.crash(manager)
        await asyncio.sleep(1000)
        manager = await place.manager(watched())
        await asyncio.sleep(9)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(2)
        assert place.world.living() == ["a#2"]
        await manager.close()

    run_virtual(scene)


def test_a_paused_daemon_can_not_ping(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        say(place, InstanceReady(KEY))
        await asyncio.sleep(1)
        say(place, InstancePaused(KEY))
        await asyncio.sleep(1000)
        say(place, InstanceContinued(KEY))
        await asyncio.sleep(9)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(2)
        assert place.world.living() == ["a#2"]
        await manager.close()

    run_virtual(scene)


def test_one_that_goes_on_just_after_its_time_gets_it_again(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        say(place, InstanceReady(KEY))
        await asyncio.sleep(9.5)
        say(place, InstancePaused(KEY))
        await asyncio.sleep(1)
        say(place, InstanceContinued(KEY))
        await asyncio.sleep(9)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(2)
        assert place.world.living() == ["a#2"]
        await manager.close()

    run_virtual(scene)


def test_the_daemon_may_choose_another_limit(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(watched())
        say(place, InstanceWatchdog(KEY, 100.0))  # before anybody listens
        say(place, InstanceReady(KEY))
        await asyncio.sleep(99)
        assert place.world.living() == ["a#1"]
        say(place, InstanceWatchdog(KEY, 0.0))
        await asyncio.sleep(5000)
        assert place.world.living() == ["a#1"]
        say(place, InstanceWatchdog(KEY, 3.0))
        await asyncio.sleep(4)
        assert place.world.living() == ["a#2"]
        await asyncio.sleep(50)
        assert place.world.living() == ["a#2"]  # which is not ready: that limit was of the other
        await manager.close()

    run_virtual(scene)


def test_more_time_for_a_start_and_a_stop(place: Place) -> None:
    async def scene() -> None:
        place.world.stubborn = {"a"}
        config = daemon(ready=ReadyConfig(notify=True), start_timeout=10.0, shutdown_timeout=10.0, restart=NOW)
        manager = await place.manager(config)
        await asyncio.sleep(9)
        say(place, InstanceAsksTime(KEY, 100.0))
        await asyncio.sleep(99)
        say(place, InstanceAsksTime(KEY, 0.5))  # less than it has: no change
        say(place, InstanceReady(KEY))
        await settle(manager)
        assert manager.status()["daemons"][0]["status"] == "running"
        stop = asyncio.create_task(manager.stop(["a"]))
        await asyncio.sleep(9)
        say(place, InstanceAsksTime(KEY, 100.0))
        await asyncio.sleep(99)
        assert place.world.living() == ["a#1"]
        await asyncio.sleep(2)
        assert place.world.living() == []
        await stop
        await manager.close()

    run_virtual(scene)
