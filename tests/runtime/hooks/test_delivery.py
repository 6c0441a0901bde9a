"""Delivery with the clock in our hands: order, retries, alerts, hooks that do not wait for each other, managers that
are killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from duende.config.daemon import StackConfig
from duende.config.hook import HookConfig, OnFailureConfig
from duende.errors import UnknownHook
from duende.model.exits import ExitInfo
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.runtime.hooks.retry import Outcome
from duende.runtime.manager import DaemonManager
from tests.runtime.play import LoopClock, Place, daemon, run_virtual, settle

NEVER = RestartConfig(policy=RestartPolicy.NEVER, reset_after=60.0)
OK = Outcome(True, "had it")
DOWN = Outcome(False, "no route to host")


class Receivers:
    """Whoever is told. `answers` says how each hook answers: an outcome, or one after the other, the last for ever."""

    def __init__(self) -> None:
        self.had: list[tuple[str, str, str]] = []  # hook, daemon, kind
        self.ids: list[str] = []
        self.answers: dict[str, list[Outcome]] = {}
        self.hang: set[str] = set()

    async def __call__(self, hook: HookConfig, event: Mapping[str, Any]) -> Outcome:
        self.had.append((hook.name, event["daemon"], event["kind"]))
        self.ids.append(event["id"])
        if hook.name in self.hang:
            await asyncio.Event().wait()
        answers = self.answers.get(hook.name, [OK])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def kinds(self, hook: str) -> list[str]:
        return [kind for name, _, kind in self.had if name == hook]


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Receivers:
    made = Receivers()
    monkeypatch.setattr("duende.runtime.manager.Sender", lambda *_: made)
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


async def manager(place: Place, hooks: list[HookConfig], *configs: Any) -> DaemonManager:
    stack = StackConfig("t", {config.name: config for config in configs}, Path("/"), hooks=tuple(hooks))
    made = DaemonManager(stack, paths=place.paths, clock=LoopClock())
    await made.open()
    await settle(made)
    return made


async def fail(place: Place, made: DaemonManager, name: str = "a") -> None:
    """Its present incarnation ends with code 1."""
    place.world.end(made.slots[name].key, ExitInfo.from_code(1))
    await settle(made)


def pager(name: str = "pager", on: tuple[str, ...] = ("failed", "recovered"), **fields: Any) -> HookConfig:
    return HookConfig(name, on, webhook="http://x", **fields)


def alerts(made: DaemonManager) -> list[tuple[str, str]]:
    return [(e["kind"], e["message"]) for e in made.events.since(0, 9999) if e["kind"].startswith("alert")]


def test_failed_and_recovered_are_told_once_each(place: Place, receivers: Receivers) -> None:
    async def scene() -> None:
        made = await manager(place, [pager()], daemon(restart=NEVER))
        await fail(place, made)
        await made.start(["a"])
        await asyncio.sleep(59.0)
        assert receivers.kinds("pager") == ["failed"]
        await asyncio.sleep(2.0)
        assert receivers.kinds("pager") == ["failed", "recovered"]
        await asyncio.sleep(500.0)
        assert receivers.kinds("pager") == ["failed", "recovered"]
        await made.close()

    run_virtual(scene)


def test_a_stable_run_is_noticed_by_the_next_manager(place: Place, receivers: Receivers) -> None:
    async def scene() -> None:
        made = await manager(place, [pager()], daemon(restart=NEVER))
        await fail(place, made)
        await made.start(["a"])
        await asyncio.sleep(30.0)
        await place.crash(made)
        await asyncio.sleep(10.0)
        made = await manager(place, [pager()], daemon(restart=NEVER))
        await asyncio.sleep(19.0)
        assert receivers.kinds("pager") == ["failed"]
        await asyncio.sleep(2.0)
        assert receivers.kinds("pager") == ["failed", "recovered"]
        await place.crash(made)
        made = await manager(place, [pager()], daemon(restart=NEVER))
        await asyncio.sleep(500.0)
        assert receivers.kinds("pager") == ["failed", "recovered"]
        await made.close()

    run_virtual(scene)


def test_a_hook_that_hangs_holds_up_neither_supervision_nor_the_others(place: Place, receivers: Receivers) -> None:
    receivers.hang = {"stuck"}

    async def scene() -> None:
        hooks = [pager("stuck", ("*",)), pager("quick")]
        policy = RestartConfig(backoff=BackoffConfig(max_retries=3))
        made = await manager(place, hooks, daemon("a", restart=NEVER), daemon("b", restart=policy))
        await fail(place, made)
        await fail(place, made, "b")
        assert receivers.kinds("quick") == ["failed"]
        await asyncio.sleep(5.0)
        assert place.world.living() == ["b#2"]
        began_s = asyncio.get_running_loop().time()
        await made.close()
        assert asyncio.get_running_loop().time() - began_s < 3.0

    run_virtual(scene)


def test_a_dead_endpoint_is_tried_again_with_delays_and_alerted_once(place: Place, receivers: Receivers) -> None:
    receivers.answers["pager"] = [DOWN] * 6 + [OK]

    async def scene() -> None:
        made = await manager(place, [pager(), pager("watcher", ("alert*",))], daemon(restart=NEVER))
        await fail(place, made)
        await asyncio.sleep(2.0)
        assert (alerts(made), made.status()["failing_hooks"]) == ([], [])
        await asyncio.sleep(10.0)
        assert alerts(made) == [("alert", "hook pager: event 4 (failed) is not delivered yet: no route to host")]
        (failing,) = made.status()["failing_hooks"]
        assert (failing["name"], failing["undelivered"]) == ("pager", 1)
        assert 0.0 < failing["next_try_s"] <= 10.0
        await asyncio.sleep(100.0)
        assert receivers.kinds("pager") == ["failed"] * 7
        assert len({id for id in receivers.ids if id.startswith("t-4-")}) == 1, "a receiver can know it again"
        assert alerts(made)[1:] == [("alert-cleared", "hook pager delivers again")]
        assert receivers.kinds("watcher") == ["alert", "alert-cleared"]
        assert made.status()["failing_hooks"] == []
        await made.close()

    run_virtual(scene)


def test_what_is_given_up_does_not_stop_what_comes_after(place: Place, receivers: Receivers) -> None:
    receivers.answers["pager"] = [Outcome(False, "HTTP status 400", is_final=True), OK]

    async def scene() -> None:
        made = await manager(place, [pager()], daemon("a", restart=NEVER), daemon("b", restart=NEVER))
        await fail(place, made, "a")
        await fail(place, made, "b")
        assert receivers.had == [("pager", "a", "failed"), ("pager", "b", "failed")]
        (one,) = made.hook_report()
        assert (one["given_up"], one["delivered"], one["failing"]) == (1, 1, False)
        assert [kind for kind, _ in alerts(made)] == ["alert", "alert-cleared"]
        await made.close()

    run_virtual(scene)


def test_patience_ends(place: Place, receivers: Receivers) -> None:
    receivers.answers["pager"] = [DOWN]

    async def scene() -> None:
        made = await manager(place, [pager(give_up_after=60.0)], daemon(restart=NEVER))
        await fail(place, made)
        await asyncio.sleep(59.0)
        assert made.hook_report()[0]["undelivered"] == 1
        await asyncio.sleep(2.0)
        report = made.hook_report()[0]
        assert (report["undelivered"], report["given_up"], report["failing"]) == (0, 1, True)
        tries = len(receivers.had)
        await asyncio.sleep(1000.0)
        assert len(receivers.had) == tries
        await made.close()

    run_virtual(scene)


def test_a_manager_killed_between_event_and_delivery_leaves_it_to_the_next(place: Place, receivers: Receivers) -> None:
    receivers.answers["pager"] = [DOWN]

    async def scene() -> None:
        made = await manager(place, [pager(), pager("other")], daemon(restart=NEVER))
        await fail(place, made)
        assert receivers.kinds("other") == ["failed"]
        await place.crash(made)
        receivers.answers["pager"] = [OK]
        receivers.had.clear()
        made = await manager(place, [pager(), pager("other")], daemon(restart=NEVER))
        await settle(made)
        assert receivers.had == [("pager", "a", "failed")]
        await place.crash(made)
        made = await manager(place, [pager(), pager("other")], daemon(restart=NEVER))
        await settle(made)
        assert len(receivers.had) == 1
        await made.close()

    run_virtual(scene)


def test_a_new_hook_is_not_told_the_past(place: Place, receivers: Receivers) -> None:
    async def scene() -> None:
        made = await manager(place, [], daemon(restart=NEVER))
        await fail(place, made)
        await made.close()
        made = await manager(place, [pager(on=("*",))], daemon(restart=NEVER))
        await settle(made)
        assert receivers.kinds("pager")[0] == "manager"
        assert "failed" not in receivers.kinds("pager")
        await made.close()
        made = await manager(place, [], daemon(restart=NEVER))
        await made.start(["a"])
        await fail(place, made)
        await made.close()
        receivers.had.clear()
        made = await manager(place, [pager(on=("failed",))], daemon(restart=NEVER))
        await settle(made)
        assert receivers.had == [], "it was gone for a time, and that time is not told"
        await made.close()

    run_virtual(scene)


def test_two_hooks_that_fail_on_each_others_alerts_come_to_rest(place: Place, receivers: Receivers) -> None:
    refused = Outcome(False, "HTTP status 404", is_final=True)
    receivers.answers = {"one": [refused], "two": [refused]}

    async def scene() -> None:
        made = await manager(place, [pager("one", ("*",)), pager("two", ("*",))], daemon(restart=NEVER))
        await asyncio.sleep(100.0)
        assert len(alerts(made)) == 2
        await made.close()

    run_virtual(scene)


def test_on_failure_starts_the_other_daemon_once_after_all_retries(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = RestartConfig(backoff=BackoffConfig(max_retries=2))

    async def scene() -> None:
        broken = daemon("a", restart=policy, on_failure=OnFailureConfig(start="medic"))
        made = await manager(place, [], broken, daemon("medic", autostart=False))
        for _ in range(2):
            await fail(place, made)
            await asyncio.sleep(1.0)
            assert "spawn medic#1" not in place.world.did
        await fail(place, made)
        await settle(made)
        assert place.world.did.count("spawn medic#1") == 1
        (asked,) = [event for event in made.events.since(0, 999) if event["kind"] == "asked"]
        assert asked["cause"].startswith("hook on_failure:a: failed of a, event ")
        await made.close()

    run_virtual(scene)


def test_on_failure_leaves_alone_what_was_stopped_by_hand(place: Place) -> None:
    async def scene() -> None:
        broken = daemon("a", restart=NEVER, on_failure=OnFailureConfig(start="medic"))
        made = await manager(place, [], broken, daemon("medic"))
        await made.stop(["medic"])
        await fail(place, made)
        await asyncio.sleep(1.0)
        assert "spawn medic#2" not in place.world.did
        assert "stopped by hand" in made.status()["failing_hooks"][0]["last_error"]["text"]
        await made.close()

    run_virtual(scene)


def test_a_test_event_goes_past_the_queue(place: Place, receivers: Receivers) -> None:
    receivers.answers["pager"] = [DOWN]

    async def scene() -> None:
        broken = daemon(restart=NEVER, on_failure=OnFailureConfig(start="medic"))
        made = await manager(place, [pager()], broken, daemon("medic", autostart=False))
        await fail(place, made)
        assert await made.test_hook("pager") == {"name": "pager", "ok": False, "message": "no route to host"}
        assert receivers.kinds("pager")[-1] == "test"
        assert "`duende start medic`" in (await made.test_hook("on_failure:a"))["message"]
        with pytest.raises(UnknownHook, match="there are: pager, on_failure:a"):
            await made.test_hook("pagre")
        await made.close()

    run_virtual(scene)


def test_what_happens_last_is_still_told_before_the_manager_goes(place: Place, receivers: Receivers) -> None:
    async def scene() -> None:
        made = await manager(place, [pager(on=("status:stopped",))], daemon())
        await made.shutdown()
        await made.close()
        assert receivers.kinds("pager") == ["status"]

    run_virtual(scene)
