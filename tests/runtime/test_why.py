"""What is recorded of waiting, and what is read from it: managers in virtual time over a platform of values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import InstanceKey, InstanceReady
from duende.config.daemon import HealthCheckConfig, ReadyConfig
from duende.model.condition import Condition
from duende.model.health import HealthStatus
from duende.runtime.manager import DaemonManager

from .play import Place, daemon, run_virtual, settle

NOTIFY = {"ready": ReadyConfig(notify=True)}
READY, STARTED, HEALTHY = Condition.READY, Condition.STARTED, Condition.HEALTHY


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, monkeypatch)
    made.world.awaits_ready = True
    return made


async def is_ready(place: Place, manager: DaemonManager, *names: str) -> None:
    """All in one batch."""
    assert place.world.adapter is not None
    for name in names:
        place.world.adapter.sink(InstanceReady(InstanceKey(name, manager.slots[name].state.instance)))
    await settle(manager)


def told(manager: DaemonManager, name: str) -> list[tuple[str, str, str]]:
    found = [event for event in manager.events.since(0, 10_000) if event["daemon"] == name]
    return [(event["kind"], event["message"], event["cause"]) for event in found]


def data(manager: DaemonManager, name: str, kind: str) -> list[dict[str, Any]]:
    found = manager.events.since(0, 10_000)
    return [event["data"] for event in found if event["daemon"] == name and event["kind"] == kind]


async def links(manager: DaemonManager, *names: str) -> list[str]:
    answer = await manager.chains(names)
    return [link["name"] for chain in answer["chains"] for link in chain]


def test_waiting_and_its_end_are_recorded_with_what_they_came_of(place: Place) -> None:
    async def scene() -> None:
        configs = [daemon("a", **NOTIFY), daemon("b", **NOTIFY, after={"a": READY})]
        manager = await place.manager(*configs)
        await is_ready(place, manager, "a")
        assert told(manager, "b") == [
            ("waiting", "waits for a (ready)", "StartRequested"),
            ("dependencies-met", "a is ready", "BecameReady"),
            ("status", "incarnation 1", "DependenciesMet"),
        ]
        assert data(manager, "b", "waiting") == [{"waits_for": {"a": "ready"}}]
        assert data(manager, "b", "dependencies-met") == [{"last": "a", "condition": "ready"}]
        await is_ready(place, manager, "b")
        assert await links(manager) == ["b", "a"]
        await manager.close()

    run_virtual(scene)


def test_what_waits_for_nothing_is_told_nothing(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon("a", **NOTIFY))
        assert [kind for kind, _, _ in told(manager, "a")] == ["status"]
        await manager.close()

    run_virtual(scene)


def test_the_last_of_several_is_told_once(place: Place) -> None:
    async def scene() -> None:
        others = [daemon(name, **NOTIFY) for name in "abcd"]
        manager = await place.manager(*others, daemon("z", **NOTIFY, after=dict.fromkeys("abc", READY)))
        await is_ready(place, manager, "b")
        await is_ready(place, manager, "d", "c", "a")  # in one batch, and the first of it is none that z waits for
        (met,) = data(manager, "z", "dependencies-met")
        assert met["last"] in "ac"
        assert manager.slots["z"].state.instance == 1
        await manager.close()

    run_virtual(scene)


def test_health_can_be_the_last(place: Place) -> None:
    async def scene() -> None:
        a = daemon("a", health_check=HealthCheckConfig(tcp="127.0.0.1:1", enabled=False))
        manager = await place.manager(a, daemon("b", after={"a": HEALTHY}))
        await is_ready(place, manager, "a")
        assert manager.slots["b"].state.waiting
        manager._reactions.on_health(manager.slots["a"], HealthStatus.healthy(1.0), True)
        await settle(manager)
        assert told(manager, "b")[1] == ("dependencies-met", "a is healthy", "HealthChecked")
        await manager.close()

    run_virtual(scene)


def test_a_start_that_is_given_up_and_asked_for_again_waits_anew(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon("a", **NOTIFY), daemon("b", **NOTIFY, after={"a": READY}))
        await manager.stop(["b"])
        await manager.start(["b"], wait=False)
        await settle(manager)
        assert [kind for kind, _, _ in told(manager, "b")] == ["waiting", "status", "waiting"]
        await is_ready(place, manager, "a")
        await is_ready(place, manager, "b")
        assert len(data(manager, "b", "dependencies-met")) == 1
        assert await links(manager, "b") == ["b", "a"]
        await manager.close()

    run_virtual(scene)


def test_one_that_was_released_before_is_released_again(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon("a", **NOTIFY), daemon("b", **NOTIFY, after={"a": READY}))
        await is_ready(place, manager, "a")
        await is_ready(place, manager, "b")
        await manager.stop(["b", "a"])
        await manager.start(["b", "a"], wait=False)
        await settle(manager)
        assert manager.slots["b"].state.waiting
        await is_ready(place, manager, "a")
        assert manager.slots["b"].state.instance == 2
        assert len(data(manager, "b", "dependencies-met")) == 2
        await manager.close()

    run_virtual(scene)


def test_the_next_manager_releases_and_tells_the_same_chain(place: Place) -> None:
    async def scene() -> None:
        configs = [daemon("a", **NOTIFY), daemon("b", **NOTIFY, after={"a": READY})]
        first = await place.manager(*configs)
        assert await links(first, "b") == ["b", "a"]  # it still waits
        await place.crash(first)
        second = await place.manager(*configs)
        assert [kind for kind, _, _ in told(second, "b")] == ["waiting"]
        explained = second.explain("b")
        assert [one["name"] for one in explained["waits_for"]] == ["a"]
        await is_ready(place, second, "a")
        await is_ready(place, second, "b")
        before = await second.chains(["b"])
        assert [link["name"] for link in before["chains"][0]] == ["b", "a"]
        await place.crash(second)
        third = await place.manager(*configs)
        assert await third.chains(["b"]) == before
        await third.close()

    run_virtual(scene)


def test_the_times_of_a_chain_are_those_of_what_happened(place: Place) -> None:
    async def scene() -> None:
        import asyncio

        manager = await place.manager(daemon("a", **NOTIFY), daemon("b", **NOTIFY, after={"a": READY}))
        await asyncio.sleep(7)
        await is_ready(place, manager, "a")
        await asyncio.sleep(5)
        await is_ready(place, manager, "b")
        ((b, a),) = (await manager.chains())["chains"]
        assert (a["asked_s"], a["ready_s"], a["took_s"]) == (0, 7, 7)
        assert (b["asked_s"], b["dependencies_met_s"], b["executed_s"], b["ready_s"]) == (0, 7, 7, 12)
        assert (b["reached_s"], b["took_s"]) == (12, 5)
        await manager.close()

    run_virtual(scene)


def test_the_longest_chain_is_one_of_daemons_that_are_still_there(place: Place) -> None:
    async def scene() -> None:
        import asyncio

        first = await place.manager(daemon("a", **NOTIFY), daemon("old", **NOTIFY))
        await is_ready(place, first, "a")
        await asyncio.sleep(50)
        await is_ready(place, first, "old")
        assert await links(first) == ["old"]
        await first.stop(["old"])
        await first.close()
        second = await place.manager(daemon("a", **NOTIFY))
        assert await links(second) == ["a"]
        await second.close()

    run_virtual(scene)


def test_the_graph_says_what_is_met(place: Place) -> None:
    async def scene() -> None:
        after = {"a": STARTED, "b": READY}
        manager = await place.manager(daemon("a", **NOTIFY), daemon("b", **NOTIFY), daemon("c", after=after))
        found = manager.graph(["c"])
        assert [one["name"] for one in found["daemons"]] == ["a", "b", "c"]
        assert found["daemons"][2] == {
            "name": "c", "status": "created", "ready": False,
            "after": [
                {"name": "a", "condition": "started", "met": True}, {"name": "b", "condition": "ready", "met": False},
            ],
        }  # fmt: skip
        assert [one["name"] for one in manager.graph(["a"])["daemons"]] == ["a"]
        await manager.close()

    run_virtual(scene)


def test_explain_sees_only_the_events_of_the_daemon_and_the_newest(place: Place) -> None:
    async def scene() -> None:
        manager = await place.manager(daemon("a"), daemon("b"))
        for number in range(100):
            manager.events.record("ab"[number % 2], "daemon-status", f"{number}")
        manager._driver.wake()
        await settle(manager)
        history = manager.explain("a")["history"]
        assert [one["message"] for one in history] == [str(number) for number in range(80, 100, 2)]
        await manager.close()

    run_virtual(scene)
