"""What a new manager makes of what the former left, case by case: nothing twice, nothing lost, no wish changed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from duende.adapters.base import InstanceKey
from duende.errors import ManagerRunning
from duende.model.exits import ExitInfo
from duende.model.ids import DaemonId
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.status import DaemonStatus
from tests.runtime.play import Place, daemon, events, run_virtual, settle

SLOW = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=60.0, max_delay=60.0, jitter=0.0))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_what_runs_is_left_alone(place: Place) -> None:
    async def scene() -> None:
        first = await place.manager(daemon())
        before = first.slots["a"]
        await place.crash(first)
        place.world.did.clear()
        second = await place.manager(daemon())
        assert place.world.did == ["open"]
        after = second.slots["a"]
        assert (after.state, after.handle, after.id) == (before.state, before.handle, before.id)
        assert "took over" in events(second, "manager")
        await second.close()

    run_virtual(scene)


def test_a_spawn_that_was_decided_but_never_made_is_made(place: Place) -> None:
    async def scene() -> None:
        first = await _killed_in_spawn(place)
        place.world.on_spawn = None
        assert first == ["open", "spawn a#1"]
        second = await place.manager(daemon())
        assert place.world.did == ["open", "spawn a#1", "open", "spawn a#1"]  # the same number again
        assert second.slots["a"].state.status is DaemonStatus.RUNNING
        await second.close()

    run_virtual(scene)


async def _killed_in_spawn(place: Place) -> list[str]:
    """A manager whose spawn gets no answer before it ends."""

    def refuse(key: InstanceKey) -> None:
        raise asyncio.CancelledError

    place.world.on_spawn = refuse
    manager = await place.manager(daemon())
    await place.crash(manager)
    return list(place.world.did)


def test_a_spawn_that_was_made_but_not_recorded_is_adopted_not_repeated(place: Place) -> None:
    async def scene() -> None:
        await _killed_in_spawn(place)
        place.world.on_spawn = None
        place.world.make(InstanceKey("a", 1), DaemonId.new())  # it had reached the keeper after all
        place.world.did.clear()
        second = await place.manager(daemon())
        assert place.world.did == ["open"]
        assert (second.slots["a"].state.status, place.world.living()) == (DaemonStatus.RUNNING, ["a#1"])
        await second.close()

    run_virtual(scene)


@pytest.mark.parametrize("code", [0, 3])
def test_what_ended_meanwhile_is_judged_by_its_exit(place: Place, code: int) -> None:
    async def scene() -> None:
        policy = RestartConfig(RestartPolicy.ON_FAILURE, BackoffConfig(initial_delay=0.0))
        await place.crash(await place.manager(daemon(restart=policy)))
        place.world.end(InstanceKey("a", 1), ExitInfo.from_code(code))
        second = await place.manager(daemon(restart=policy))
        state = second.slots["a"].state
        assert state.exit is not None
        assert state.exit.code == code
        assert (state.status, place.world.living()) == (
            (DaemonStatus.STOPPED, []) if code == 0 else (DaemonStatus.RUNNING, ["a#2"])
        )
        assert place.world.did.count("release a#1") == 1
        await second.close()

    run_virtual(scene)


def test_what_is_gone_without_a_trace_counts_as_a_failure(place: Place) -> None:
    async def scene() -> None:
        await place.crash(await place.manager(daemon(restart=SLOW)))
        place.world.instances.clear()
        second = await place.manager(daemon(restart=SLOW))
        state = second.slots["a"].state
        assert state.status is DaemonStatus.BACKOFF
        assert state.exit is not None
        assert state.exit.message == "pid 100 ended while neither manager nor keeper was there"
        await second.close()

    run_virtual(scene)


def test_a_stop_under_way_is_carried_on_to_its_own_deadline(place: Place) -> None:
    async def scene() -> None:
        place.world.stubborn = {"a"}
        first = await place.manager(daemon(shutdown_timeout=30.0))
        await first.stop(["a"], wait=False)
        await settle(first)
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(20)
        await place.crash(first)
        place.world.did.clear()
        second = await place.manager(daemon(shutdown_timeout=30.0))
        await second.wait(["a"], until="stopped")
        assert place.world.did == ["open", "signal 15 a#1", "kill a#1", "release a#1"]
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(30.0, abs=0.5)
        assert not second.slots["a"].state.wanted
        await second.close()

    run_virtual(scene)


def test_backoff_stands_where_it_stood(place: Place) -> None:
    async def scene() -> None:
        first = await place.manager(daemon(restart=SLOW))
        place.world.end(InstanceKey("a", 1), ExitInfo.from_code(1))
        await settle(first)
        due_s = first.slots["a"].state.next_start_s
        await asyncio.sleep(25)
        await place.crash(first)
        second = await place.manager(daemon(restart=SLOW))
        assert second.slots["a"].state.next_start_s == due_s
        assert second.slots["a"].state.attempt == 1
        await second.wait(["a"], until="ready")
        assert asyncio.get_running_loop().time() == pytest.approx(due_s, abs=0.01)
        await second.close()

    run_virtual(scene)


def test_an_instance_of_no_daemon_is_killed_and_released(place: Place) -> None:
    async def scene() -> None:
        place.world.make(InstanceKey("unknown", 1), DaemonId.new())
        manager = await place.manager(daemon())
        assert place.world.living() == ["a#1"]
        assert {"kill unknown#1", "release unknown#1"} <= set(place.world.did)
        assert sum("was still there though it had been given up" in text for text in events(manager, "alert")) == 1
        await manager.close()

    run_virtual(scene)


def test_a_newer_incarnation_than_the_state_knows_is_adopted_and_not_killed(place: Place) -> None:
    """The former manager could not write it down (a full disk), or somebody has deleted the state."""

    async def scene() -> None:
        place.world.make(InstanceKey("a", 7), DaemonId.new())
        manager = await place.manager(daemon())
        await manager.wait(["a"], until="running")
        assert place.world.living() == ["a#7"]
        assert manager.slots["a"].state.instance == 7
        await manager.close()

    run_virtual(scene)


@pytest.mark.parametrize("ended", [False, True])
def test_a_daemon_that_is_no_longer_configured_is_stopped_and_forgotten(place: Place, ended: bool) -> None:
    async def scene() -> None:
        await place.crash(await place.manager(daemon(), daemon("old")))
        if ended:  # also when it has ended by itself meanwhile: nothing waits for it for ever
            place.world.end(InstanceKey("old", 1), ExitInfo.from_code(0))
        second = await place.manager(daemon())
        assert list(second.slots) == ["a"]
        assert place.world.living() == ["a#1"]
        await second.shutdown()
        await second.close()
        third = await place.manager(daemon())
        assert list(third.slots) == ["a"]
        await third.close()

    run_virtual(scene)


def test_a_shutdown_while_a_removed_daemon_still_stops_ends_too(place: Place) -> None:
    async def scene() -> None:
        place.world.stubborn = {"old"}
        await place.crash(await place.manager(daemon(), daemon("old")))
        second = await place.manager(daemon())
        assert set(second.slots) == {"a", "old"}
        await second.shutdown()
        assert place.world.living() == []
        await second.close()

    run_virtual(scene)


def test_after_a_reboot_nothing_is_adopted_and_what_was_wanted_is_started(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        configs = [daemon(), daemon("stopped"), daemon("waits", restart=SLOW)]
        first = await place.manager(*configs)
        await first.stop(["stopped"])
        place.world.end(InstanceKey("waits", 1), ExitInfo.from_code(1))
        await settle(first)
        await place.crash(first)
        monkeypatch.setattr("duende.runtime.manager.boot_id", lambda: "another")
        place.world.instances.clear()
        place.world.exits.clear()
        asyncio.get_running_loop().now_s = 5.0  # type: ignore[attr-defined]  # that clock has begun anew
        second = await place.manager(*configs)
        assert place.world.living() == ["a#2", "waits#2"]
        assert second.slots["stopped"].state.status is DaemonStatus.STOPPED
        assert "started" in events(second, "manager")
        await second.close()

    run_virtual(scene)


@pytest.mark.parametrize("how", ["crash", "down"])
def test_stopped_by_hand_stays_stopped(place: Place, how: str) -> None:
    async def scene() -> None:
        first = await place.manager(daemon(), daemon("b"))
        await first.stop(["a"])
        if how == "crash":
            await place.crash(first)
        else:
            await first.shutdown()
            await first.close()
        second = await place.manager(daemon(), daemon("b"))
        assert [name.partition("#")[0] for name in place.world.living()] == ["b"]
        await second.close()

    run_virtual(scene)


def test_a_manager_killed_in_the_midst_of_a_down_starts_again_what_is_wanted(place: Place) -> None:
    async def scene() -> None:
        place.world.stubborn = {"a"}
        first = await place.manager(daemon(), daemon("b", after={}))
        down = asyncio.ensure_future(first.shutdown())
        await settle(first)
        assert place.world.living() == ["a#1"]  # b has stopped, a takes its time
        await place.crash(first)
        down.cancel()
        second = await place.manager(daemon(), daemon("b"))
        assert (await second.wait(["a"], until="ready"))[0]["ok"]  # when its stop, that it is in the midst of, is over
        assert sorted(place.world.living()) == ["a#2", "b#2"]
        await second.close()

    run_virtual(scene)


def test_what_was_completed_is_not_started_again_by_a_takeover(place: Place) -> None:
    async def scene() -> None:
        once = daemon(restart=RestartConfig(RestartPolicy.ON_FAILURE))
        first = await place.manager(once)
        place.world.end(InstanceKey("a", 1), ExitInfo.from_code(0))
        await settle(first)
        await place.crash(first)
        second = await place.manager(once)
        assert place.world.living() == []
        await second.close()

    run_virtual(scene)


def test_two_managers_at_once_one_wins(place: Place) -> None:
    async def scene() -> None:
        first = await place.manager(daemon())
        with pytest.raises(ManagerRunning, match=r"cannot manage stack 't': a manager \(pid \d+\) runs already"):
            await place.manager(daemon())
        assert place.world.living() == ["a#1"]
        await first.close()
        await (await place.manager(daemon())).close()

    run_virtual(scene)


def test_a_manager_that_cannot_open_lets_go_of_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        import threading

        before = {thread.name for thread in threading.enumerate()}
        with monkeypatch.context() as patch:
            patch.setattr("duende.runtime.takeover.reconcile", _fail)
            with pytest.raises(RuntimeError, match="planted"):
                await place.manager(daemon())
        assert {thread.name for thread in threading.enumerate() if thread.name.startswith("duende")} <= before
        second = await place.manager(daemon())  # the lock is free, the database too
        assert place.world.living() == ["a#1"]
        await second.close()

    run_virtual(scene)


async def _fail(*_: object) -> None:
    raise RuntimeError("planted")


def test_a_register_at_runtime_starts_and_is_refused_twice(place: Place) -> None:
    async def scene() -> None:
        from duende.errors import ConfigurationError, UnknownDaemon

        manager = await place.manager()
        await manager.register(daemon("web.1"))
        await manager.register(daemon("off", autostart=False))
        await settle(manager)
        assert place.world.living() == ["web.1#1"]
        with pytest.raises(ConfigurationError, match=r"off: is registered already \(give it another name\)"):
            await manager.register(daemon("off"))
        assert manager.match(["web"]) == manager.match(["w*"]) == ["web.1"]
        assert manager.match(["off", "*"]) == ["web.1", "off"]
        with pytest.raises(UnknownDaemon, match=r"no daemon 'of' in stack 't'; did you mean 'off'\?"):
            manager.match(["of"])
        with pytest.raises(UnknownDaemon, match=r"this stack has: web.1, off"):
            manager.match(["zzzzzz"])
        await manager.close()

    run_virtual(scene)


def test_every_decision_is_on_disk_before_it_is_done(place: Place) -> None:
    """At the moment of each spawn another reader of the database finds that very incarnation in it."""

    async def scene() -> None:
        seen: list[bool] = []

        def look(key: InstanceKey) -> None:
            with sqlite3.connect(place.paths.state_db) as db:
                state = db.execute("SELECT state FROM daemon WHERE name = ?", (key.name,)).fetchone()
            db.close()
            seen.append(state is not None and f'"instance": {key.instance},' in state[0])

        place.world.on_spawn = look
        manager = await place.manager(daemon(restart=RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(0.0))))
        for n in range(1, 4):
            place.world.end(InstanceKey("a", n), ExitInfo.from_code(1))
            await settle(manager)
            await asyncio.sleep(1)
        await manager.restart(["a"])
        assert len(seen) >= 4
        assert all(seen)
        await manager.close()

    run_virtual(scene)
