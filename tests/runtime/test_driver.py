"""The loop around the core, timers and the event log, with a manual clock and platforms that misbehave."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import InstanceContinued, InstanceKey, InstanceNote, InstancePaused
from duende.core.events import StartRequested
from duende.errors import PlatformIoError, ResourceLimit, SpawnFailed
from duende.model.exits import ExitInfo
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.status import DaemonStatus
from duende.runtime.driver import Driver
from duende.runtime.eventlog import EventLog
from duende.runtime.manager import DaemonManager
from duende.runtime.store import Store
from duende.runtime.timers import Timers
from tests.runtime.play import LoopClock, Place, daemon, events, run_virtual, settle, stack_of

NOW = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.0))
LATER = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=10.0, jitter=0.0))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


# --- effects that fail


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (SpawnFailed("cannot execute 'x': No such file", errno=2, stage="exec"), DaemonStatus.FAILED, "cannot execute"),
        (ResourceLimit("cannot start a process: no memory"), DaemonStatus.BACKOFF, "no memory"),
        (PlatformIoError("the keeper is not there"), DaemonStatus.BACKOFF, "the keeper is not there"),
    ],
)
def test_a_failed_spawn_comes_back_as_an_event(
    place: Place, error: Exception, status: DaemonStatus, words: str
) -> None:
    def fail(key: InstanceKey) -> None:
        raise error

    async def scene() -> None:
        place.world.on_spawn = fail
        manager = await place.manager(daemon(restart=LATER))
        state = manager.slots["a"].state
        assert state.status is status
        assert state.exit is not None
        assert words in state.exit.message
        assert events(manager, "alert") == []
        await manager.close()

    run_virtual(scene)


def test_a_bug_in_an_adapter_is_an_alert_and_the_daemon_can_still_be_stopped(place: Place) -> None:
    complaints: list[dict[str, Any]] = []

    def fail(key: InstanceKey) -> None:
        if key.name == "a":
            raise KeyError("planted")

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        place.world.on_spawn = fail
        manager = await place.manager(daemon(restart=LATER), daemon("b"))
        assert manager.slots["a"].state.status is DaemonStatus.BACKOFF
        assert manager.slots["b"].state.status is DaemonStatus.RUNNING
        assert any("internal error" in text and "KeyError: 'planted'" in text for text in events(manager, "alert"))
        assert complaints
        assert (await manager.stop(["a"]))[0]["ok"]
        await manager.shutdown()
        await manager.close()

    run_virtual(scene)


def test_a_bug_in_a_reaction_costs_nobody_else_anything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        manager = await place.manager(daemon(restart=NOW), daemon("b", restart=NOW))

        def fail(slot: Any, before: Any, event: Any) -> None:
            if slot.config.name == "a":
                raise ValueError("planted")

        manager._driver._on_step = fail
        for name in ("a", "b"):
            place.world.end(InstanceKey(name, 1), ExitInfo.from_code(1))
        await settle(manager)
        assert place.world.living() == ["a#2", "b#2"]
        assert any("ValueError: planted" in text for text in events(manager, "alert"))
        await manager.close()

    run_virtual(scene)


def test_a_pid_file_that_cannot_be_written_or_removed_is_an_alert(place: Place, tmp_path: Path) -> None:
    async def scene() -> None:
        bad = tmp_path / "pid"
        bad.mkdir()
        manager = await place.manager(daemon(pid_file=bad, restart=NOW))
        place.world.end(InstanceKey("a", 1), ExitInfo.from_code(1))
        await settle(manager)
        assert place.world.living() == ["a#2"]
        alerts = events(manager, "alert")
        assert f"cannot write the pid file {bad}: Is a directory" in alerts
        assert f"cannot remove the pid file {bad}: Is a directory" in alerts
        await manager.shutdown()
        await manager.close()

    run_virtual(scene)
    assert list(tmp_path.glob(".pid*")) == []


def test_a_pid_file_is_there_while_the_daemon_is_and_a_strangers_stays(place: Place, tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "pid"
        manager = await place.manager(daemon(pid_file=path))
        assert path.read_text() == "100\n"
        assert path.stat().st_mode & 0o777 == 0o644
        await manager.stop(["a"])
        assert not path.exists()
        await manager.start(["a"])
        path.write_text("77\n")
        await manager.stop(["a"])
        assert path.read_text() == "77\n"
        await manager.close()

    run_virtual(scene)


def test_what_a_daemon_says_may_be_anything(place: Place) -> None:
    """Half a surrogate pair, a NUL: nothing that a daemon says may stop the journal."""

    async def scene() -> None:
        manager = await place.manager(daemon())
        assert place.world.adapter is not None
        place.world.adapter.sink(InstanceNote(InstanceKey("a", 1), "status", "half \ud800 \x00 ü"))
        await settle(manager)
        assert "half \\ud800 \x00 ü" in events(manager, "daemon-status")
        assert (await manager.restart(["a"]))[0]["ok"]
        assert not manager._store.trouble
        await manager.close()

    run_virtual(scene)


def test_a_store_that_cannot_write_stops_nothing_and_catches_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def scene() -> None:
        manager = await place.manager(daemon(restart=NOW))
        with monkeypatch.context() as patch:
            patch.setattr(manager._store, "_write_pending", full)
            place.world.end(InstanceKey("a", 1), ExitInfo.from_code(1))
            await settle(manager)
            assert place.world.living() == ["a#2"]
            await asyncio.sleep(5)
            assert sum("disk is full" in text for text in events(manager, "alert")) == 1  # told once, not each second
        await asyncio.sleep(2)  # nobody does anything; it is tried again by itself
        assert events(manager, "alert-cleared") == ["the state database can be written again"]
        await place.crash(manager)
        after = await place.manager(daemon(restart=NOW))
        assert (after.slots["a"].state.instance, place.world.living()) == (2, ["a#2"])
        await after.close()

    run_virtual(scene)


def test_who_stops_by_hand_on_a_full_disk_is_told_that_it_is_not_on_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def scene() -> None:
        manager = await place.manager(daemon())
        with monkeypatch.context() as patch:
            patch.setattr(manager._store, "_write_pending", full)
            (answer,) = await manager.stop(["a"])
        assert (answer["ok"], answer["status"]) == (True, "stopped")
        assert "; not on record (cannot write " in answer["message"]
        assert "disk is full" in answer["message"]
        (answer,) = await manager.start(["a"])
        assert "not on record" not in answer["message"]
        await manager.close()

    run_virtual(scene)


@pytest.mark.parametrize("had_run", [False, True])
def test_a_manager_killed_before_its_first_commit_has_come_to_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, had_run: bool
) -> None:
    """Its successor starts what it would have started, rather than take over a stack in which nothing was wanted."""

    async def scene() -> None:
        if had_run:  # and was ended in order
            first = await place.manager(daemon())
            await first.shutdown()
            await first.close()
        with monkeypatch.context() as patch:
            patch.setattr(Driver, "begin", lambda driver: None)
            killed = DaemonManager(stack_of(daemon()), paths=place.paths, clock=LoopClock())
            await killed.open()
            await place.crash(killed)
        assert place.world.living() == []
        after = await place.manager(daemon())
        assert after.slots["a"].state.status is DaemonStatus.RUNNING
        await after.close()

    run_virtual(scene)


def test_a_down_on_a_full_disk_ends_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from duende.errors import StateError

    def full(key: str, value: str) -> None:
        raise StateError("cannot write the state: disk is full")

    async def scene() -> None:
        manager = await place.manager(daemon())
        monkeypatch.setattr(manager._store, "set_meta", full)
        await manager.shutdown()
        assert manager.finished.is_set()
        assert place.world.living() == []
        await manager.close()

    run_virtual(scene)


def test_pause_and_continue_are_seen(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon())
        assert place.world.adapter is not None
        place.world.adapter.sink(InstancePaused(InstanceKey("a", 1)))
        await settle(manager)
        assert manager.slots["a"].state.status is DaemonStatus.PAUSED
        place.world.adapter.sink(InstanceContinued(InstanceKey("a", 9)))  # of another incarnation
        await settle(manager)
        assert manager.slots["a"].state.status is DaemonStatus.PAUSED
        place.world.adapter.sink(InstanceContinued(InstanceKey("a", 1)))
        await settle(manager)
        assert manager.slots["a"].state.status is DaemonStatus.RUNNING
        await manager.close()

    run_virtual(scene)


def test_the_backoff_is_as_long_as_configured(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(restart=LATER))
        loop, starts = asyncio.get_running_loop(), []
        place.world.on_spawn = lambda key: starts.append(round(loop.time() - 1000.0, 3))
        for n in range(1, 4):
            place.world.end(InstanceKey("a", n), ExitInfo.from_code(1))
            await settle(manager)
            assert manager.status()["daemons"][0]["next_start_s"] == pytest.approx(min(10.0 * 2 ** (n - 1), 30.0))
            await manager.wait(["a"], until="ready")
        assert starts == [10.0, 30.0, 60.0]
        await manager.close()

    run_virtual(scene)


# --- waiting


def test_waiting_ends_with_an_answer_also_when_the_time_is_over(place: Place) -> None:
    async def scene() -> None:
        place.world.stubborn = {"a"}
        manager = await place.manager(daemon(shutdown_timeout=100.0))
        (late,) = await manager.stop(["a"], timeout_s=5.0)
        assert (late["ok"], late["timed_out"], late["message"]) == (False, True, "still stopping after 5 s")
        (done,) = await manager.wait(["a"], until="stopped")
        assert done["ok"]
        (dead,) = await manager.wait(["a"], until="ready", timeout_s=1.0)
        assert not dead["ok"]
        with pytest.raises(ValueError, match="known are ready, running, stopped, exited, healthy"):
            await manager.wait(["a"], until="happy")
        await manager.close()

    run_virtual(scene)


def test_a_start_that_waits_for_what_failed_says_so(place: Place) -> None:
    from duende.model.condition import Condition

    def fail(key: InstanceKey) -> None:
        if key.name == "db":
            raise SpawnFailed("no such program", errno=2, stage="exec")

    async def scene() -> None:
        place.world.on_spawn = fail
        manager = await place.manager(daemon("db"), daemon("web", after={"db": Condition.READY}))
        (answer,) = await manager.start(["web"], timeout_s=60.0)
        assert not answer["ok"]
        assert answer["message"].startswith("waits for db, which is failed (no such program")
        place.world.on_spawn = None
        assert all(one["ok"] for one in await manager.start(["db"]))
        (answer,) = await manager.wait(["web"], until="ready", timeout_s=60.0)
        assert answer["ok"]  # it still came when that one did
        await manager.close()

    run_virtual(scene)


# --- timers


def test_timers_fire_in_order_once_and_never_when_dead() -> None:
    async def scene() -> None:
        fired: list[tuple[str, int, float]] = []
        dead: set[int] = {3}
        loop = asyncio.get_running_loop()
        timers = Timers(LoopClock(), lambda name, token: fired.append((name, token, loop.time())),
                        lambda name, token: token not in dead)  # fmt: skip
        for token, deadline_s in ((1, 1005.0), (2, 1002.0), (3, 1001.0), (4, 1005.0), (5, 900.0), (6, 4000.0)):
            timers.arm("a", token, deadline_s)
        timers.plan()
        await asyncio.sleep(1)
        timers.arm("b", 7, 1003.0)  # earlier than what is planned
        timers.plan()
        dead.add(4)
        await asyncio.sleep(4000)
        assert fired == [("a", 5, 1000.0), ("a", 2, 1002.0), ("b", 7, 1003.0), ("a", 1, 1005.0), ("a", 6, 4000.0)]
        timers.arm("a", 8, 6000.0)
        timers.plan()
        timers.stop()
        await asyncio.sleep(4000)
        assert len(fired) == 5

    run_virtual(scene)


# --- the event log


def test_a_follower_sees_every_event_once_whenever_it_comes(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "s.db")
        log = EventLog(store, LoopClock())

        def write(count: int) -> None:
            for _ in range(count):
                log.record("a", "status", f"event {log.last_seq + 1}")
            store.commit((), log.take_unwritten())
            log.committed()

        async def follow(after: int, until: int) -> list[int]:
            got = []
            async for event in log.follow(after):
                got.append(event["seq"])
                await asyncio.sleep(0 if event["seq"] % 7 else 0.3)  # a slow reader
                if event["seq"] == until:
                    break
            return got

        write(1200)  # more than a page
        followers = [asyncio.ensure_future(follow(after, 2000)) for after in (0, 700, 1200, 1999)]
        for _ in range(8):
            await asyncio.sleep(0.5)
            write(100)
        assert [await one for one in followers] == [list(range(after + 1, 2001)) for after in (0, 700, 1200, 1999)]
        store.close()
        again = Store(tmp_path / "s.db")
        assert EventLog(again, LoopClock()).last_seq == 2000  # numbers go on over managers
        again.close()

    run_virtual(scene)


def test_an_unwanted_start_is_never_decided_after_close(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon(autostart=False))
        await manager.close()
        manager._driver.post("a", StartRequested())
        await asyncio.sleep(1)
        assert place.world.living() == []

    run_virtual(scene)
