"""A new adapter, a broken connection, a dead keeper, a cancelled caller: instances go on, and none runs twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import (
    AdapterTrouble,
    InstanceContinued,
    InstanceExited,
    InstanceKey,
    InstanceNote,
    InstancePaused,
    InstanceReady,
)
from duende.config.daemon import KillMode, ReadyConfig
from duende.errors import PlatformError, PlatformIoError
from duende.model.exits import ExitReason
from duende.system.process import set_child_subreaper
from tests.adapters.conftest import Bench, Play, is_alive, keepers_of, read, until

pytestmark = pytest.mark.real


async def _change_adapter(bench: Bench) -> list[Any]:
    """As if the manager had died and come again; between the two nobody listens."""
    await bench.adapter.close()
    bench.adapter = bench.new_adapter()
    return await bench.open()


def test_a_new_adapter_finds_what_runs_what_ended_and_what_was_paused(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.spawn("sleep", "1000", name="goes-on")
        ended = await bench.spawn("sleep", "1000", name="ended")
        paused = await bench.spawn("sleep", "1000", name="paused")
        continued = await bench.spawn("sleep", "1000", name="continued")
        pids = {name: spawned.handle.pid for name, spawned in
                (("ended", ended), ("paused", paused), ("continued", continued))}  # fmt: skip
        await bench.adapter.pause(continued.handle)
        await bench.event(InstancePaused)
        keeper = bench.adapter.keeper_pid
        await bench.adapter.close()
        os.kill(pids["ended"] or 0, 10)
        os.kill(pids["paused"] or 0, signal.SIGSTOP)
        os.kill(pids["continued"] or 0, signal.SIGCONT)
        await until(lambda: not is_alive(pids["ended"] or 0), "its end")
        bench.events.clear()
        bench.adapter = bench.new_adapter()
        found = {survey.key.name: survey for survey in await bench.open()}
        assert set(found) == {"goes-on", "ended", "paused", "continued"}
        assert bench.adapter.keeper_pid == keeper
        assert found["paused"].handle == paused.handle
        assert (await bench.event(InstanceExited)).exit.signal == 10
        assert (await bench.event(InstancePaused)).key.name == "paused"
        await bench.event(InstanceContinued, InstanceKey("continued", 1))
        await bench.adapter.signal(found["goes-on"].handle, 15)
        assert (await bench.event(InstanceExited, InstanceKey("goes-on", 1))).exit.signal == 15

    play(scene)


def test_an_exit_is_told_to_every_new_adapter_until_it_is_taken(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.spawn("sh", "-c", "exit 3")
        for _ in range(3):
            assert (await bench.event(InstanceExited)).exit.code == 3
            await _change_adapter(bench)
        await bench.end()
        assert await _change_adapter(bench) == []

    play(scene)


def test_an_exit_at_the_very_moment_of_the_take_over_is_not_lost(play: Play) -> None:
    """The exit may follow the keeper's list at once; it must not be told before the instance is known."""

    async def scene(bench: Bench) -> None:
        for n in range(1, 31):
            spawned = await bench.spawn("sleep", "1000", instance=n)
            await bench.adapter.close()
            bench.adapter = bench.new_adapter()
            opening = asyncio.ensure_future(bench.open())
            if n % 3:
                await asyncio.sleep(0.0005 * (n % 3))
            os.kill(spawned.handle.pid or 0, 9)
            await opening
            await bench.end(instance=n)

    play(scene)


def test_a_broken_connection_is_made_anew_and_nothing_is_lost(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sleep", "1000")
        gone = await bench.spawn("sleep", "1000", name="gone")
        keeper = bench.adapter.keeper_pid
        assert bench.adapter._client._channel is not None
        bench.adapter._client._channel.sock.shutdown(2)
        os.kill(gone.handle.pid or 0, 10)
        while not (await bench.event(AdapterTrouble)).cleared:
            pass
        assert bench.adapter.keeper_pid == keeper
        assert (await bench.event(InstanceExited, InstanceKey("gone", 1))).exit.signal == 10
        await bench.spawn("true", name="new")
        await bench.end("new")
        await bench.adapter.kill(spawned.handle)
        await bench.end()

    play(scene)


def test_a_killed_keeper_costs_no_instance_and_no_exit_status(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        set_child_subreaper()  # as a manager's process is
        try:
            spawned = [await bench.spawn("sleep", "1000", name=f"n{n}") for n in range(4)]
            old = bench.adapter.keeper_pid
            os.kill(old or 0, signal.SIGKILL)
            while not (await bench.event(AdapterTrouble)).cleared:
                pass
            assert bench.adapter.keeper_pid != old
            for one in spawned:
                assert (await bench.adapter.status(one.handle)).running
            await bench.adapter.signal(spawned[0].handle, 10)
            assert (await bench.end("n0")).exit.signal == 10
            await bench.adapter.kill(spawned[1].handle)
            assert (await bench.end("n1")).exit.signal == 9
            await bench.spawn("sh", "-c", "exit 5", name="new")
            assert (await bench.end("new")).exit.code == 5
        finally:
            set_child_subreaper(False)

    play(scene)


def test_a_keeper_that_cannot_be_started_is_tried_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bench: Bench) -> None:
        client = bench.adapter._client
        start, failures = client._start_keeper, []

        def fail_twice() -> None:
            if len(failures) < 2:
                failures.append(1)
                raise OSError(24, os.strerror(24))
            start()

        monkeypatch.setattr(client, "_start_keeper", fail_twice)
        monkeypatch.setattr("duende.adapters.native.adapter._KEEPER_RETRY_S", 0.01)
        os.kill(bench.adapter.keeper_pid or 0, signal.SIGKILL)
        await bench.event(AdapterTrouble)
        with pytest.raises(PlatformIoError, match="the keeper is not there; it is being started again"):
            await bench.spawn("true")
        assert "Too many open files; it is tried again" in (await bench.event(AdapterTrouble)).what
        assert (await bench.event(AdapterTrouble)).cleared  # and the second failure in the same words is not told again
        await bench.spawn("true")
        await bench.end()

    play(scene)


@pytest.mark.parametrize("kill_keeper", [True, False])
def test_a_start_whose_answer_is_lost_leaves_nothing_running(play: Play, kill_keeper: bool) -> None:
    """What the caller was told had failed must not live beside its next incarnation, however the race goes."""

    async def scene(bench: Bench) -> None:
        for n in range(1, 11):
            starting = asyncio.ensure_future(bench.spawn("sleep", "1000", instance=n))
            await asyncio.sleep(0.001 * (n % 5))
            if kill_keeper:
                os.kill(bench.adapter.keeper_pid or 0, signal.SIGKILL)
            else:
                assert bench.adapter._client._channel is not None
                bench.adapter._client._channel.sock.shutdown(2)
            lost = False
            try:
                await starting
            except PlatformIoError:
                lost = True
            while not (await bench.event(AdapterTrouble)).cleared:
                pass
            if lost:
                await until(lambda: not [pid for pid in bench.living() if is_alive(pid)], "the end of the lost one")
            else:
                await bench.adapter.kill((await starting).handle)
                await bench.event(InstanceExited)
                await bench.adapter.release(InstanceKey("d", n))
        assert not [event for event in bench.events if isinstance(event, InstanceExited)]

    play(scene)


def test_readiness_that_came_while_no_manager_was_there_is_told_to_the_next(play: Play, folder: Path) -> None:
    code = "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); input()\n"
    code += "s.sendto(b'READY=1\\nSTATUS=warm', os.environ['NOTIFY_SOCKET']); time.sleep(1000)"

    async def scene(bench: Bench) -> None:
        go = folder / "go"
        os.mkfifo(go)
        command = ("sh", "-c", 'exec "$@" < ' + str(go), "sh", sys.executable, "-I", "-S", "-c", code)
        spawned = await bench.spawn(*command, ready=ReadyConfig(notify=True))
        bench.adapter._client.close()
        with go.open("w") as line:
            line.write("\n")
        await until(lambda: "nanosleep" in read(f"/proc/{spawned.handle.pid}/wchan"), "its word")
        found = await _change_adapter(bench)
        assert [survey.key for survey in found] == [InstanceKey("d", 1)]
        assert (await bench.event(InstanceReady)).key == InstanceKey("d", 1)
        assert (await bench.event(InstanceNote)).text == "warm"

    play(scene)


def test_a_cancelled_spawn_loses_nothing(play: Play) -> None:
    """At every await: afterwards either nothing was made, or asking again gives that very instance, alive."""

    async def scene(bench: Bench) -> None:
        for n in range(1, 25):
            starting = asyncio.ensure_future(bench.spawn("sleep", "1000", instance=n))
            for _ in range(n % 12):
                await asyncio.sleep(0 if n < 12 else 0.001)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            spawned = await bench.spawn("sleep", "1000", instance=n)
            assert (await bench.adapter.status(spawned.handle)).running
            pid = spawned.handle.pid
            assert await until(bench.living, "the instance's environment") == [pid]
            await bench.adapter.kill(spawned.handle)
            await bench.end(instance=n)
        assert not [event for event in bench.events if isinstance(event, InstanceExited)]

    play(scene)


def test_a_cancelled_spawn_is_found_by_the_next_adapter(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        starting = asyncio.ensure_future(bench.spawn("sleep", "1000"))
        await asyncio.sleep(0)
        starting.cancel()
        await until(bench.living, "the instance")
        found = await _change_adapter(bench)
        assert [survey.key for survey in found] == [InstanceKey("d", 1)]
        await bench.adapter.kill(found[0].handle)
        await bench.end()

    play(scene)


def test_adopting_needs_that_very_process(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sleep", "1000")
        data = dict(spawned.handle.data)
        key = InstanceKey("d", 1)
        bench.adapter._records.pop(key)
        wrong = type(spawned.handle).from_json({**spawned.handle.to_json()})
        nobodys = {"marker": "nobody.1", "cgroup": None}  # what it has left behind would be ended
        for change in ({"start_ticks": data["start_ticks"] + 1}, {"boot_id": "0"}, {"pid": 2**22 - 1}):
            stranger = type(wrong).native(wrong.id, **{"pid": wrong.pid, **data, **nobodys, **change})
            assert not await bench.adapter.adopt(key, stranger)
        assert await bench.adapter.adopt(key, wrong)
        await bench.adapter.kill(wrong)
        exited = await bench.event(InstanceExited)
        assert exited.exit.reason in (ExitReason.SIGNAL, ExitReason.UNKNOWN)

    play(scene)


@pytest.mark.parametrize("base", ["detect", None])
@pytest.mark.parametrize("kill_mode", [KillMode.MIXED, KillMode.PROCESS])
def test_what_a_leader_left_behind_while_nobody_was_there_does_not_live_beside_the_next(
    play: Play, base: Any, kill_mode: KillMode
) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sh", "-c", "sleep 1000 & exec sleep 1000", kill_mode=kill_mode)
        (child,) = await until(lambda: [pid for pid in bench.living() if pid != spawned.handle.pid], "the child")
        keeper = bench.adapter.keeper_pid or 0
        bench.adapter._closing = True
        for pid in (keeper, spawned.handle.pid or 0):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_alive(keeper) and not is_alive(spawned.handle.pid or 0), "their end")
        await until(lambda: not os.path.exists(f"/proc/{spawned.handle.pid}"), "its being reaped by PID 1")
        assert await _change_adapter(bench) == []
        assert not await bench.adapter.adopt(InstanceKey("d", 1), spawned.handle)
        assert is_alive(child) is (kill_mode is KillMode.PROCESS)

    play(scene, base=base)


def test_a_pause_is_seen_without_a_keeper(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sleep", "1000")
        pid = spawned.handle.pid or 0
        os.kill(pid, signal.SIGSTOP)
        await bench.event(InstancePaused)
        os.kill(bench.adapter.keeper_pid or 0, signal.SIGKILL)
        while not (await bench.event(AdapterTrouble)).cleared:
            pass
        os.kill(pid, signal.SIGCONT)
        await bench.event(InstanceContinued)
        os.kill(pid, signal.SIGSTOP)
        await bench.event(InstancePaused)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("duende.adapters.native.orphans._LOOK_S", 0.02)
        play(scene)


def test_a_start_that_is_repeated_after_a_takeover_finds_its_instance_alive(play: Play) -> None:
    """It executes just between the new manager's hello and its question."""

    async def scene(bench: Bench) -> None:
        for n in range(1, 13):
            starting = asyncio.ensure_future(bench.spawn("sleep", "1000", instance=n))
            await asyncio.sleep(0)  # it is asked
            bench.adapter._closing = True  # and then this manager does nothing any more
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            bench.adapter._client.close()
            bench.adapter = bench.new_adapter()
            await bench.open()
            await asyncio.sleep(0.0004 * n)
            spawned = await bench.spawn("sleep", "1000", instance=n)
            assert await until(bench.living, "the instance") == [spawned.handle.pid]
            await asyncio.sleep(0.005)  # a stray would be killed by now
            assert is_alive(spawned.handle.pid or 0)
            await bench.adapter.kill(spawned.handle)
            await bench.end(instance=n)

    play(scene)


def test_a_keeper_that_does_not_answer_is_told(folder: Path) -> None:
    import socket

    from duende.adapters.native import client
    from duende.adapters.native.adapter import NativeAdapter

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(folder / "keeper.sock"))
            silent.listen()
            adapter = NativeAdapter(folder)
            with pytest.raises(PlatformError, match="does not answer"):
                await adapter.open(lambda event: None)
            await adapter.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_HELLO_TIMEOUT_S", 0.05)
        asyncio.run(main())


def test_closing_an_adapter_with_nothing_running_ends_exactly_one_keeper(play: Play, folder: Path) -> None:
    async def scene(bench: Bench) -> None:
        await bench.spawn("true")
        await bench.end()
        first = keepers_of(folder)
        assert await bench.adapter.end_keeper()
        await asyncio.sleep(0.05)  # time enough for a mistaken replacement
        assert len(first) == 1
        assert keepers_of(folder) == []
        assert bench.troubles() == []

    play(scene)


def test_the_end_of_a_cancelled_spawn_is_told_to_who_asks_again(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        starting = asyncio.ensure_future(bench.spawn("true"))
        await asyncio.sleep(0)
        starting.cancel()
        await until(lambda: bench.adapter._unanswered._events, "the exit of what nobody has been told of")
        assert not bench.events
        await bench.spawn("true")
        assert (await bench.end()).exit.code == 0

    play(scene)
