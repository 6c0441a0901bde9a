"""Selection, retries and the ledger: the pure part of hooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.hook import HookConfig, OnFailureConfig
from duende.runtime.hooks.ledger import QUEUE_MAX, Ledger
from duende.runtime.hooks.retry import Outcome, next_delay_s, parse_retry_after_s
from duende.runtime.hooks.select import Selection, wants


def hook(name: str = "h", on: tuple[str, ...] = ("failed",), **fields: Any) -> HookConfig:
    return HookConfig(name, on, **({"command": ("x",)} | fields))


def event(seq: int = 1, kind: str = "failed", daemon: str = "web", **fields: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"seq": seq, "kind": kind, "daemon": daemon, "status": None, "data": {}}
    return base | fields


@pytest.mark.parametrize(
    ("config", "what", "is_wanted"),
    [
        (hook(), event(), True),
        (hook(), event(kind="recovered"), False),
        (hook(on=("fail*",)), event(), True),
        (hook(on=("*",)), event(kind="manager", daemon=""), True),
        (hook(on=("status",)), event(kind="status", status="stopped"), True),
        (hook(on=("status:stopped",)), event(kind="status", status="stopped"), True),
        (hook(on=("status:stopped",)), event(kind="status", status="running"), False),
        (hook(on=("status:failed",)), event(kind="failed", status="failed"), False),
        (hook(daemons=("web*",)), event(daemon="web.2"), True),
        (hook(daemons=("web",)), event(daemon="web.2"), True),
        (hook(daemons=("web",)), event(daemon="web.x"), False),
        (hook(daemons=("web",)), event(daemon="webby"), False),
        (hook(daemons=("*",)), event(daemon=""), False),
        (hook(), event(data={"again": True}), False),
        (hook(on=("alert",)), event(kind="alert", daemon="", data={"hook": "h"}), False),
        (hook(on=("alert",)), event(kind="alert", daemon="", data={"hook": "other"}), True),
        (hook(command=None, start="web"), event(), False),
        (hook(command=None, start="web"), event(daemon="web.3"), False),
        (hook(command=None, start="medic"), event(), True),
    ],
)
def test_what_a_hook_is_told(config: HookConfig, what: dict[str, Any], is_wanted: bool) -> None:
    assert wants(config, what) is is_wanted


def test_on_failure_is_a_hook_of_its_daemon_alone() -> None:
    made = OnFailureConfig(start="medic").hook_for("web", "f:1")
    selection = Selection([made, hook(on=("*",))])
    assert [one.name for one in selection.hooks_for(event())] == ["on_failure:web", "h"]
    assert [one.name for one in selection.hooks_for(event(daemon="web.1"))] == ["h"]
    assert [one.name for one in selection.hooks_for(event(kind="status"))] == ["h"]


# --- retries

_FAILED = Outcome(False, "no")


def delay(outcome: Outcome = _FAILED, *, attempts: int = 1, tried_s: float = 0.0, patience_s: float = 3600.0) -> Any:
    return next_delay_s(outcome, attempts=attempts, tried_s=tried_s, patience_s=patience_s, uniform=0.5)


def test_delays_double_up_to_a_bound() -> None:
    assert [delay(attempts=n) for n in (1, 2, 3, 9, 10, 100_000)] == [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]


@pytest.mark.parametrize("outcome", [Outcome(True, ""), Outcome(False, "", is_final=True)])
def test_what_is_over_is_not_tried_again(outcome: Outcome) -> None:
    assert delay(outcome) is None


def test_without_patience_there_is_one_attempt() -> None:
    assert delay(patience_s=0.0) is None


def test_the_last_attempt_is_at_the_end_of_patience() -> None:
    assert delay(attempts=10, tried_s=3590.0) == 10.0
    assert delay(attempts=11, tried_s=3600.0) is None


def test_the_receivers_wish_is_kept_unless_it_is_beyond_our_patience() -> None:
    assert delay(Outcome(False, "", retry_after_s=120.0)) == 120.0
    assert delay(Outcome(False, "", retry_after_s=0.0)) == 1.0
    assert delay(Outcome(False, "", retry_after_s=86400.0)) == 3600.0


@given(st.integers(1, 50), st.floats(0, 4000), st.floats(0, 4000), st.floats(0, 0.999))
def test_a_delay_is_positive_and_never_beyond_patience(attempts: int, tried: float, patience: float, u: float) -> None:
    found = next_delay_s(_FAILED, attempts=attempts, tried_s=tried, patience_s=patience, uniform=u)
    if found is None:
        assert tried >= patience
    else:
        assert 0.0 < found <= patience - tried


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30", 30.0), (" 7 ", 7.0), ("", None), ("soon", None), ("-1", None), ("1e9", None),
        ("Sat, 21 Nov 2026 02:36:30 GMT", 30.0), ("Sat, 21 Nov 2026 02:35:00 GMT", 0.0), ("99999999999999", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    assert parse_retry_after_s(value, now_unix_s=1795228560.0) == expected


# --- the ledger


def test_the_first_manager_begins_with_its_own_events() -> None:
    ledger = Ledger([hook()], "", last_seq=41)
    assert ledger.read_seq == 41
    assert [one.name for one in ledger.take(event(42))] == ["h"]


def test_what_was_not_delivered_is_told_to_the_next_manager_and_nothing_else() -> None:
    first = Ledger([hook("slow"), hook("quick")], "", last_seq=0)
    for seq in (1, 2, 3):
        first.take(event(seq))
        first.done("quick", seq)
    first.done("slow", 1)
    second = Ledger([hook("slow"), hook("quick")], first.to_json(), last_seq=3)
    assert second.read_seq == 1
    told = {seq: [one.name for one in second.take(event(seq))] for seq in (2, 3, 4)}
    assert told == {2: ["slow"], 3: ["slow"], 4: ["slow", "quick"]}
    assert second.missing == 0


def test_a_manager_that_dies_while_it_catches_up_loses_nothing() -> None:
    stored = json.dumps({"position": 10, "behind": {"slow": 2}})
    second = Ledger([hook("slow", ("oom",))], stored, last_seq=10)
    second.take(event(3, "failed"))
    third = Ledger([hook("slow", ("oom",))], second.to_json(), last_seq=10)
    assert third.read_seq == 3
    assert third.take(event(4, "oom"))


def test_a_dead_endpoint_costs_a_bounded_queue_and_the_oldest_events() -> None:
    ledger = Ledger([hook()], "", last_seq=0)
    for seq in range(1, QUEUE_MAX + 6):
        ledger.take(event(seq))
    assert ledger.undelivered("h") == QUEUE_MAX
    assert ledger.dropped == {"h": 5}
    assert (ledger.head("h") or {})["seq"] == 6


def test_events_that_the_log_no_longer_has_are_counted() -> None:
    ledger = Ledger([hook()], json.dumps({"position": 10, "behind": {"h": 2}}), last_seq=500)
    ledger.take(event(101))
    assert ledger.missing == 98


def test_numbers_that_were_lost_with_a_full_disk_are_told_when_they_come_again() -> None:
    ledger = Ledger([hook()], json.dumps({"position": 90, "behind": {}}), last_seq=50)
    assert ledger.take(event(51))


def test_hooks_that_are_gone_are_forgotten() -> None:
    ledger = Ledger([hook()], json.dumps({"position": 9, "behind": {"gone": 2}}), last_seq=9)
    assert ledger.read_seq == 9
    assert json.loads(ledger.to_json()) == {"position": 9, "behind": {}}


_KINDS = st.lists(st.sampled_from(["failed", "oom", "status"]), min_size=1, max_size=25)
_LIVES = st.lists(st.lists(st.sampled_from(["read", "a", "b"]), max_size=20), min_size=1, max_size=5)


@given(kinds=_KINDS, lives=_LIVES)
def test_over_any_row_of_killed_managers_every_wanted_event_is_delivered_in_order(
    kinds: list[str], lives: list[list[str]]
) -> None:
    """Each life reads and delivers a bit and is killed; what was stored last is all that the next one knows."""
    log = [event(seq, kind) for seq, kind in enumerate(kinds, 1)]
    hooks = [hook("a", ("failed",)), hook("b", ("oom", "failed"))]
    had: dict[str, list[int]] = {"a": [], "b": []}
    stored = Ledger(hooks, "", last_seq=0).to_json()

    def live(acts: list[str], deliver: Callable[[Ledger, str], None]) -> str:
        ledger = Ledger(hooks, stored, last_seq=len(log))
        for act in acts:
            if act == "read":
                for one in log[ledger.read_seq : ledger.read_seq + 1]:
                    ledger.take(one)
            elif ledger.head(act) is not None:
                deliver(ledger, act)
        return ledger.to_json()

    def deliver(ledger: Ledger, name: str) -> None:
        head = ledger.head(name)
        assert head is not None
        had[name].append(head["seq"])
        ledger.done(name, head["seq"])

    for acts in (*lives, ["read", "a", "b"] * (len(log) + 1) + ["a", "b"] * len(log)):
        stored = live(acts, deliver)
    for one in hooks:
        assert had[one.name] == [entry["seq"] for entry in log if wants(one, entry)]
