"""Schedules in a manager: virtual time, a platform of values, clocks that are set, managers that die."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from duende.config.daemon import DaemonConfig
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.condition import Condition
from duende.model.exits import ExitInfo
from duende.model.restart import BackoffConfig, RestartConfig
from duende.model.schedule import Missed, Moment, Overlap, ScheduleConfig
from duende.runtime.manager import DaemonManager
from duende.runtime.takeover import after_reboot

from .play import LoopClock, Place, daemon, events, run_virtual, settle, stack_of

NINE_S = datetime(2026, 11, 20, 9, 0, tzinfo=UTC).timestamp()


class SettableClock(LoopClock):
    """Its wall clock shows nine o'clock when the loop begins, and can be set."""

    def __init__(self) -> None:
        self.offset_s = NINE_S - 1000.0

    def wall_s(self) -> float:
        return self.offset_s + self.boottime_s()


class Scene:
    """One job (and what else a test adds) over managers that come and go; a run takes `takes_s`."""

    def __init__(self, place: Place, *, takes_s: float = 1.0, code: int = 0, **schedule: Any) -> None:
        self.place, self.world, self.clock = place, place.world, SettableClock()
        self.takes_s, self.code = takes_s, code
        self.job = daemon("job", schedule=ScheduleConfig(**schedule))
        self.ran_at_s: list[float] = []
        self.at_once = 0
        self.world.on_spawn = self._spawned
        self.began_s = 1000.0

    def _spawned(self, key: Any) -> None:
        if key.name != "job":
            return
        loop = asyncio.get_running_loop()
        assert not [each for each in self.world.living() if each.startswith("job")], "never two runs at once"
        self.ran_at_s.append(round(loop.time() - self.began_s, 3))
        loop.call_later(self.takes_s, self._end, key)

    def _end(self, key: Any) -> None:
        if key in self.world.instances and key not in self.world.exits:
            self.world.end(key, ExitInfo.from_code(self.code))

    async def up(self, *others: DaemonConfig) -> DaemonManager:
        self.manager = DaemonManager(stack_of(self.job, *others), paths=self.place.paths, clock=self.clock)
        await self.manager.open()
        await settle(self.manager)
        return self.manager

    async def crash(self) -> None:
        await self.place.crash(self.manager)

    async def down(self) -> None:
        await self.manager.shutdown()
        await self.manager.close()

    def set_clock(self, by_s: float) -> None:
        self.clock.offset_s += by_s
        self.manager._schedules.clock_was_set()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.manager.status(["job"])["daemons"][0]
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_it_is_not_started_with_the_stack_but_at_every_slot(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0)
        manager = await play.up()
        assert await manager.start() == [
            {"name": "job", "ok": True, "changed": False, "status": "created", "message": "runs on its schedule"}
        ]
        assert (await manager.restart())[0]["message"] == "runs on its schedule"
        assert (await manager.wait([], until="settled"))[0]["ok"]
        await asyncio.sleep(200)
        assert play.ran_at_s == [60, 120, 180]
        await manager.close()

    run_virtual(scene)


def test_the_status_tells_the_next_run(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, cron="15 9 * * *", timezone="UTC")
        await play.up()
        await asyncio.sleep(648)
        assert play.status()["next_start_s"] == 252
        assert play.status()["message"] == "next run in 4m12s (09:15)"
        await asyncio.sleep(252.5)
        assert (play.status()["status"], play.status()["message"]) == ("running", "")
        assert play.status()["next_start_s"] == pytest.approx(86400 - 0.5)
        await asyncio.sleep(5)
        assert play.status()["message"] == "completed: exited with code 0; next run in 23h59m54s (2026-11-21 09:15)"
        await play.manager.close()

    run_virtual(scene)


def test_a_stop_suspends_the_schedule_until_a_start_that_runs_at_once(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0, missed=Missed.ONCE)
        manager = await play.up()
        await asyncio.sleep(70)
        await manager.stop(["job"])
        assert play.status()["message"].startswith("its schedule is suspended until `duende start job`")
        assert play.status()["next_start_s"] is None
        await asyncio.sleep(1000)
        assert play.ran_at_s == [60]
        await play.crash()
        manager = await play.up()
        await asyncio.sleep(1000)
        assert play.ran_at_s == [60], "the next manager does not resume it"
        await manager.start(["job"])
        await asyncio.sleep(70)
        assert play.ran_at_s[1:] == pytest.approx([2070, 2130])
        await manager.close()

    run_virtual(scene)


def test_autostart_off_leaves_the_schedule_off(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0)
        play.job = daemon("job", schedule=ScheduleConfig(every=60.0), autostart=False)
        manager = await play.up()
        await asyncio.sleep(200)
        assert play.ran_at_s == []
        await manager.start(["job"])
        await asyncio.sleep(61)
        assert play.ran_at_s == [200, 260]
        await manager.close()

    run_virtual(scene)


def test_the_next_manager_goes_on_where_the_grid_was(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0)
        await play.up()
        await asyncio.sleep(70)
        for _ in range(5):  # more often than a slot comes: the time until the first must not begin anew
            await play.crash()
            await play.up()
            await asyncio.sleep(25)
        assert play.ran_at_s == [60, 120, 180]
        await play.manager.close()

    run_virtual(scene)


def test_a_run_goes_on_without_its_manager_and_is_not_run_twice(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0, takes_s=100.0)
        await play.up()
        await asyncio.sleep(70)
        await play.crash()
        await play.up()
        await asyncio.sleep(80)
        assert play.ran_at_s == [60]
        assert events(play.manager, "overlap") == ["the run of 09:02 is left out: the one before it still runs"]
        await asyncio.sleep(60)
        assert play.ran_at_s == [60, 180]
        await play.manager.close()

    run_virtual(scene)


@pytest.mark.parametrize(("missed", "ran"), [(Missed.SKIP, [3600]), (Missed.ONCE, [600, 3600])])
def test_what_is_missed_while_no_manager_is_there(place: Place, missed: Missed, ran: list[float]) -> None:
    async def scene() -> None:
        play = Scene(place, cron="*/5 * * * *", timezone="UTC", missed=missed, takes_s=1)
        play.job = daemon("job", schedule=ScheduleConfig(cron="0,2,4 9,10 * * *", timezone="UTC", missed=missed))
        await play.up()
        await asyncio.sleep(60)
        await play.crash()
        await asyncio.sleep(540)
        await play.up()
        await asyncio.sleep(3060)
        assert play.ran_at_s == ran
        outcome = "and not made up for" if missed is Missed.SKIP else "this run makes up for them"
        told = events(play.manager, "missed")
        assert len(told) == 1
        assert told[0].startswith("2 runs until 2026-11-20 09:04 were missed")
        assert told[0].endswith(outcome)
        await play.manager.close()

    run_virtual(scene)


def test_down_runs_nothing_more_and_up_goes_on(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0, takes_s=30.0)
        await play.up()
        await asyncio.sleep(70)
        await play.down()
        assert play.world.living() == []
        await asyncio.sleep(30)
        await play.up()
        await asyncio.sleep(30)
        assert play.ran_at_s == [60, 120]
        await play.down()

    run_virtual(scene)


def test_a_slot_that_comes_during_down_starts_nothing(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0)
        play.world.stubborn = {"slow"}
        await play.up(daemon("slow", shutdown_timeout=20.0))
        await asyncio.sleep(50)
        await play.down()
        assert asyncio.get_running_loop().time() - play.began_s == 70
        assert play.ran_at_s == []

    run_virtual(scene)


def test_the_clock_of_another_boot_means_nothing() -> None:
    before = DaemonState(policy=LifecyclePolicy(overlap=Overlap.QUEUE), slot=Moment(60.0, 5.0), queued=True)
    after = after_reboot(before)
    assert (after.slot, after.queued) == (Moment(60.0, None), False)


def test_a_clock_that_is_set_back_runs_nothing_twice(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, cron="*/5 * * * *", timezone="UTC")
        await play.up()
        await asyncio.sleep(310)
        play.set_clock(-20)  # 09:04:50 again
        await asyncio.sleep(200)
        assert play.ran_at_s == [300]
        play.set_clock(-3600)
        await asyncio.sleep(3600)
        assert play.ran_at_s == [300]
        await asyncio.sleep(200)
        assert play.ran_at_s == [300, 300 + 300 + 20 + 3600]
        await play.manager.close()

    run_virtual(scene)


def test_a_clock_that_was_wrong_is_not_waited_for(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, cron="*/5 * * * *", timezone="UTC")
        await play.up()
        await asyncio.sleep(310)
        play.set_clock(-86400)
        await asyncio.sleep(300)
        assert play.ran_at_s == [300, 600]
        await play.manager.close()

    run_virtual(scene)


@pytest.mark.parametrize(("missed", "ran"), [(Missed.SKIP, []), (Missed.ONCE, [10])])
def test_a_clock_that_is_set_forth_misses_slots(place: Place, missed: Missed, ran: list[float]) -> None:
    async def scene() -> None:
        play = Scene(place, cron="0 10 * * *", timezone="UTC", missed=missed)
        await play.up()
        await asyncio.sleep(10)
        play.set_clock(5400)
        await asyncio.sleep(10)
        assert play.ran_at_s == ran
        assert len(events(play.manager, "missed")) == 1
        await play.manager.close()

    run_virtual(scene)


def test_a_clock_that_is_set_forth_to_just_before_a_slot_is_not_overslept(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, cron="0 10 * * *", timezone="UTC")
        await play.up()
        await asyncio.sleep(10)
        play.set_clock(3580)
        await asyncio.sleep(11)
        assert play.ran_at_s == [20]
        await play.manager.close()

    run_virtual(scene)


def test_after_a_reboot_every_goes_on_by_the_wall_clock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        play = Scene(place, every=3600.0)
        await play.up()
        await asyncio.sleep(3700)
        await play.crash()
        monkeypatch.setattr("duende.runtime.manager.boot_id", lambda: "another")
        await asyncio.sleep(600)
        await play.up()
        assert play.status()["next_start_s"] == pytest.approx(3600 - 700)
        await asyncio.sleep(3000)
        assert play.ran_at_s == [3600, 7200]
        await play.manager.close()

    run_virtual(scene)


def test_replace_and_queue_never_have_two_runs_at_once(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0, overlap=Overlap.REPLACE, takes_s=90.0)
        await play.up()
        await asyncio.sleep(190)
        assert play.ran_at_s == [60, 120, 180]  # `_spawned` looks that nothing lives
        await play.down()
        play.job = daemon("job", schedule=ScheduleConfig(every=60.0, overlap=Overlap.QUEUE))
        begun = len(play.ran_at_s)
        await play.up()
        await asyncio.sleep(400)
        assert play.ran_at_s[begun:] == [240, 330, 420, 510]
        await play.down()

    run_virtual(scene)


def test_a_failed_run_is_tried_again_within_its_slot(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0, code=1)
        again = RestartConfig(backoff=BackoffConfig(initial_delay=40.0, max_delay=100.0, jitter=0.0))
        play.job = daemon("job", schedule=ScheduleConfig(every=60.0), restart=again)
        await play.up()
        await asyncio.sleep(130)
        assert play.ran_at_s == [60, 101, 120]
        assert events(play.manager, "overlap") == [], "a retry that is waited for is no run that overlaps"
        await play.manager.close()

    run_virtual(scene)


def test_a_slot_waits_for_dependencies(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=60.0)
        play.job = daemon("job", schedule=ScheduleConfig(every=60.0), after={"db": Condition.READY})
        manager = await play.up(daemon("db", autostart=False))
        await asyncio.sleep(70)
        assert play.ran_at_s == []
        assert play.status()["waiting_for"] == ["db"]
        await manager.start(["db"])
        await asyncio.sleep(55)
        assert play.ran_at_s == [70, 120]
        await manager.close()

    run_virtual(scene)


def test_jitter_is_the_same_for_the_next_manager(place: Place) -> None:
    async def scene() -> None:
        play = Scene(place, every=600.0, jitter=300.0)
        await play.up()
        due_s = play.manager.slots["job"].next_run_s
        assert due_s is not None
        assert 1600 < due_s < 1900
        await asyncio.sleep(100)
        await play.crash()
        await play.up()
        assert play.manager.slots["job"].next_run_s == due_s
        await asyncio.sleep(900)
        assert play.ran_at_s == [round(due_s - 1000, 3)]
        await play.manager.close()

    run_virtual(scene)


def test_a_manager_that_is_killed_at_the_slot_runs_it_once(place: Place) -> None:
    """The slot is noted with the spawn, or not at all; the next manager asks for the same incarnation again."""

    async def scene() -> None:
        for moment in ("before the commit", "before the spawn"):
            play = Scene(place, every=60.0)
            await play.up()
            begun = len(play.ran_at_s)
            if moment == "before the commit":
                play.manager._driver.stopped = True  # the batch with the slot is never decided
            else:
                play.manager._driver.own = lambda work: work.close()  # type: ignore[method-assign]  # nor performed
            await asyncio.sleep(65)
            await play.crash()
            await play.up()
            await asyncio.sleep(5)
            assert len(play.ran_at_s) == begun + 1, moment
            await play.down()
            await asyncio.sleep(1)

    run_virtual(scene)
