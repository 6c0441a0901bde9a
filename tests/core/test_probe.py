"""What answers mean, as tables and as properties: thresholds both ways, windows, what holds what back, the watchdog."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.core.probe import (
    LATE_S,
    Change,
    ProbeKind,
    Rule,
    Rules,
    Standing,
    Tally,
    Verdict,
    Watchdog,
    answered,
    began,
    changes,
    count,
    is_ready,
    look,
    may_ask,
    next_at_s,
    resumed,
    told,
)

STARTUP, READINESS, LIVENESS = ProbeKind
VERDICTS = {"?": Verdict.UNKNOWN, "+": Verdict.PASSING, "-": Verdict.FAILING}


def verdicts(rule: Rule, answers: Iterable[bool]) -> list[Verdict]:
    tally, found = Tally(), []
    for passed in answers:
        tally = count(tally, rule, passed)
        found.append(tally.verdict)
    return found


@pytest.mark.parametrize(
    ("rule", "answers", "expected"),
    [
        (Rule(3, 1), "fffff", "??---"),
        (Rule(3, 1), "ffpff", "??+++"),
        (Rule(3, 1), "fffp", "??-+"),
        (Rule(3, 2), "fffpfpp", "??----+"),
        (Rule(1, 1), "pfpf", "+-+-"),
        (Rule(2, 3), "pppfpfff", "??++++--"),
        (Rule(3, 1, window=5), "pfpfpf", "+++++-"),
        (Rule(3, 1, window=5), "pfpppfpfpf", "+++++++++-"),
        (Rule(3, 2, window=5), "pfppfpff", "???++++-"),
        (Rule(3, 1, window=5), "ffpfff", "??+++-"),  # what was before the change is forgotten
        (Rule(0, 1), "ffffffff", "????????"),
    ],
    ids=str,
)
def test_verdicts(rule: Rule, answers: str, expected: str) -> None:
    assert verdicts(rule, [letter == "p" for letter in answers]) == [VERDICTS[sign] for sign in expected]


@given(
    rule=st.builds(Rule, st.integers(0, 5), st.integers(1, 5), st.sampled_from((0, 5, 7))),
    answers=st.lists(st.booleans(), max_size=60),
)
def test_a_verdict_only_changes_with_enough_answers_of_its_kind(rule: Rule, answers: list[bool]) -> None:
    before, since = Verdict.UNKNOWN, 0  # where the answers begin that count
    for at, verdict in enumerate(verdicts(rule, answers)):
        seen = answers[since : at + 1]
        in_a_row = 0
        while in_a_row < len(seen) and seen[-1 - in_a_row] is seen[-1]:
            in_a_row += 1
        failures = seen[-rule.window :].count(False) if rule.window else in_a_row
        if seen[-1]:
            turns = before is not Verdict.PASSING and in_a_row >= rule.success_threshold
            expected = Verdict.PASSING if turns else before
        else:
            turns = before is not Verdict.FAILING and 0 < rule.failure_threshold <= failures
            expected = Verdict.FAILING if turns else before
        assert verdict is expected
        if turns:
            before, since = verdict, at + 1


@given(rule=st.builds(Rule, st.integers(0, 2**31), st.integers(1, 2**31), st.integers(0, 9)), passed=st.booleans())
def test_a_tally_stays_small_however_long_it_goes_on(rule: Rule, passed: bool) -> None:
    tally = Tally()
    for _ in range(50):
        tally = count(tally, rule, passed)
    assert len(tally.recent) <= rule.window


ALL = Rules(Rule(3), Rule(2, 2), Rule(2), waits_to_be_told=True)


def test_nothing_is_asked_before_the_start_is_over_and_startup_never_again() -> None:
    standing = began()
    assert [kind for kind in ProbeKind if may_ask(standing, ALL, kind)] == [STARTUP]
    assert answered(standing, ALL, LIVENESS, False) is standing
    standing = answered(standing, ALL, STARTUP, True)
    assert [kind for kind in ProbeKind if may_ask(standing, ALL, kind)] == []  # not told yet
    standing = told(standing)
    assert [kind for kind in ProbeKind if may_ask(standing, ALL, kind)] == [READINESS, LIVENESS]
    assert answered(standing, ALL, STARTUP, False) is standing


def walk(standing: Standing, rules: Rules, *answers: tuple[ProbeKind, bool]) -> tuple[Standing, list[Change]]:
    found: list[Change] = []
    for kind, passed in answers:
        after = answered(standing, rules, kind, passed)
        found += changes(standing, after, rules)
        standing = after
    return standing, found


def test_readiness_is_had_lost_and_had_again() -> None:
    standing = told(answered(began(), ALL, STARTUP, True))
    yes, no = (READINESS, True), (READINESS, False)
    standing, found = walk(standing, ALL, no, no, no, no)
    assert found == []  # it never was ready, so nothing is lost
    standing, found = walk(standing, ALL, yes, no, yes, yes, no, yes, no, no, yes, no, yes, yes)
    assert found == [Change.READY, Change.UNREADY, Change.READY]


def test_liveness_is_told_once_a_change() -> None:
    standing = told(answered(began(), ALL, STARTUP, True))
    well, ill = (LIVENESS, True), (LIVENESS, False)
    assert walk(standing, ALL, ill, ill, ill, ill, well, ill, ill, ill)[1] == [Change.DEAD, Change.ALIVE, Change.DEAD]


def test_after_a_pause_liveness_is_judged_anew() -> None:
    standing, _ = walk(began(was_ready=True, is_ready=True), ALL, (LIVENESS, False), (LIVENESS, False))
    assert walk(resumed(standing), ALL, (LIVENESS, False), (LIVENESS, False))[1] == [Change.DEAD]
    assert is_ready(resumed(standing), ALL)


def test_a_start_that_fails_is_told_once() -> None:
    standing, found = walk(began(), ALL, *[(STARTUP, False)] * 9)
    assert found == [Change.START_FAILED]
    assert not may_ask(standing, ALL, STARTUP)


@pytest.mark.parametrize("is_ready_now", [True, False])
def test_another_manager_goes_on_where_the_last_stood(is_ready_now: bool) -> None:
    standing = began(was_ready=True, is_ready=is_ready_now)
    assert is_ready(standing, ALL) is is_ready_now
    assert not may_ask(standing, ALL, STARTUP)
    assert may_ask(standing, ALL, LIVENESS)


@given(
    rules=st.builds(
        Rules, *[st.none() | st.builds(Rule, st.integers(0, 3), st.integers(1, 3))] * 3, waits_to_be_told=st.booleans()
    ),
    events=st.lists(st.none() | st.tuples(st.sampled_from(ProbeKind), st.booleans()), max_size=40),
)
def test_ready_and_unready_take_turns_and_nothing_is_said_before_the_start_is_over(
    rules: Rules, events: list[tuple[ProbeKind, bool] | None]
) -> None:
    standing, said = began(), []
    for event in events:
        after = told(standing) if event is None else answered(standing, rules, *event)
        said += changes(standing, after, rules)
        standing = after
    turns = [change for change in said if change in (Change.READY, Change.UNREADY)]
    first = Change.UNREADY if is_ready(began(), rules) else Change.READY
    assert turns[:1] in ([], [first])
    assert all(one is not other for one, other in itertools.pairwise(turns))
    if rules.waits_to_be_told and None not in events:
        assert set(said) <= {Change.START_FAILED}


@given(began_s=st.floats(0, 1e6), took_s=st.floats(0, 1e3), interval_s=st.floats(0.001, 100))
def test_the_next_time_is_never_before_the_last_answer(began_s: float, took_s: float, interval_s: float) -> None:
    ended_s = began_s + took_s
    at_s = next_at_s(began_s, ended_s, interval_s)
    assert at_s >= ended_s
    assert at_s <= ended_s + interval_s + 1e-6 * max(1.0, at_s)
    assert at_s >= began_s + interval_s - 1e-9 * max(1.0, at_s)


def test_a_watchdog_bites_when_it_is_due_and_not_before() -> None:
    dog = Watchdog(10.0, 100.0)
    assert look(dog, 109.9) == (dog, False)
    assert look(dog, 110.0) == (dog, True)
    assert look(dog, 110.0 + LATE_S) == (dog, True)


def test_who_looks_too_late_was_away_himself() -> None:
    dog, is_silent = look(Watchdog(10.0, 100.0), 500.0)
    assert not is_silent
    assert dog.due_s == 510.0
    assert look(dog, 509.0)[1] is False
    assert look(dog, 510.0)[1] is True  # he was there all the time, and nothing came


@given(
    limit_s=st.floats(0.1, 100), pings=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=20),
    aways=st.lists(st.floats(0, 1000), min_size=1, max_size=20),
)  # fmt: skip
def test_one_that_pings_in_time_is_never_silent_however_long_nobody_looks(
    limit_s: float, pings: list[float], aways: list[float]
) -> None:
    """Its pings come every share of the limit; they are read in time, or all at once by who was away."""
    now_s, dog = 0.0, Watchdog(limit_s, 0.0)
    for share, away_s in zip(pings, aways, strict=False):
        now_s += share * limit_s
        dog = Watchdog(limit_s, now_s, dog.excused_until_s)
        late_s = max(dog.due_s, now_s) + away_s if away_s > LATE_S else now_s
        dog, is_silent = look(dog, late_s)
        assert not is_silent
        now_s = late_s
