"""When a schedule runs: DST as in cron(8), clocks that are set, what is missed, and jitter."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duende.core import schedule
from duende.core.schedule import Begin, PassOver, Run, Wait, assess, cron_fields, next_after, time_text
from duende.model.schedule import Missed, Moment, ScheduleConfig

from .clockwork import ZONES, Broken, Life, check_life, check_next, random_fields, random_moment

SEEDS = 120

# expression, zone, from (local time), the next slots (local time with offset)
CHANGES = [
    # Berlin goes forward at 02:00 on 29 March 2026: a time of day in the gap comes right after it, once
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
    ("30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-29 03:30 +0200"]),
    ("30 3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:30 +0200", "03-30 03:30 +0200"]),
    # … and what comes every so often leaves it out
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["03-29 01:30 +0100", "03-29 03:00 +0200"]),
    ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["03-29 01:30 +0100", "03-29 03:30 +0200"]),
    ("0 */2 * * *", "Europe/Berlin", "2026-03-29T00:30", ["03-29 04:00 +0200", "03-29 06:00 +0200"]),
    # it goes back at 03:00 on 25 October: a time of day that comes twice counts once
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:00 +0200", "10-25 03:00 +0100"]),
    # … and what comes every so often counts twice
    (
        "*/30 * * * *", "Europe/Berlin", "2026-10-25T01:45",
        ["10-25 02:00 +0200", "10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100", "10-25 03:00 +0100"],
    ),
    ("0 * * * *", "Europe/Berlin", "2026-10-25T01:45", ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"]),
    ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
    # half an hour
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
    ("0 */2 * * *", "Australia/Lord_Howe", "2026-04-05T00:30", ["04-05 02:00 +1030", "04-05 04:00 +1030"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
    # midnight itself is left out
    ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00", ["04-24 01:00 +0300", "04-25 00:00 +0300"]),
    ("@daily", "America/Santiago", "2026-09-05T12:00", ["09-06 01:00 -0300", "09-07 00:00 -0300"]),
    # a whole day is left out: Samoa crossed the date line after 29 December 2011
    ("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00", ["12-31 00:00 +1400", "12-31 09:00 +1400"]),
    ("0 9 * * *", "Asia/Kolkata", "2026-03-28T12:00", ["03-29 09:00 +0530", "03-30 09:00 +0530"]),
    ("0 9 29 2 *", "UTC", "2026-03-28T12:00", ["02-29 09:00 +0000"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "zone_name", "start", "expected"), CHANGES)
def test_next_slots_where_clocks_change(text: str, zone_name: str, start: str, expected: list[str]) -> None:
    zone = ZoneInfo(zone_name)
    at_s, fields = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp(), cron_fields(text)
    found = []
    for _ in expected:
        at_s = next_after(fields, zone, at_s)
        found.append(f"{datetime.fromtimestamp(at_s, zone):%m-%d %H:%M %z}")
    assert found == expected


def test_a_question_in_the_second_of_two_equal_hours_does_not_go_back_to_the_first() -> None:
    zone = ZoneInfo("Europe/Berlin")
    second = datetime(2026, 10, 25, 2, 10, tzinfo=zone, fold=1)
    assert f"{datetime.fromtimestamp(next_after('30 2 * * *', zone, second.timestamp()), zone)}" == (
        "2026-10-26 02:30:00+01:00"
    )
    assert next_after("30 * * * *", zone, second.timestamp()) == second.timestamp() + 20 * 60


def test_next_slots_are_those_of_a_walk_through_all_minutes() -> None:
    for seed in range(SEEDS):
        check_next(seed)


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_next_is_later_and_no_slot_is_jumped_over(chance: random.Random) -> None:
    zone, fields = ZoneInfo(chance.choice(ZONES)), random_fields(chance)
    at_s = random_moment(chance, zone)
    first_s = next_after(fields, zone, at_s)
    assert first_s > at_s
    just_before_s = math.nextafter(first_s, 0.0)
    for between_s in (min(at_s + (first_s - at_s) * chance.random(), just_before_s), just_before_s):
        assert next_after(fields, zone, between_s) == first_s
    assert next_after(fields, zone, first_s) > first_s


def test_lives_with_mischief_run_every_slot_once() -> None:
    for seed in range(SEEDS):
        check_life(seed)


# --- every


def test_every_lies_on_a_grid_and_does_not_drift() -> None:
    life = Life(ScheduleConfig(every=60.0)).live(0.0)
    begun_s = life.boot_s
    life.live(59.0).pass_time(5.0)  # whoever looks late
    life.live(200.0)
    assert [slot.boot_s for slot in life.ran] == [begun_s + 60 * n for n in range(1, 5)]


@pytest.mark.parametrize("step_s", [-7200.0, -1.0, 1.0, 7200.0, 1e9])
def test_every_does_not_mind_the_wall_clock(step_s: float) -> None:
    life = Life(ScheduleConfig(every=60.0)).live(90.0)
    life.set_clock(step_s).live(120.0)
    assert life.ran_at_s == [60.0, 120.0, 180.0]


def test_every_goes_on_after_a_reboot_by_the_wall_clock() -> None:
    life = Life(ScheduleConfig(every=3600.0)).live(3600.0 + 1000.0).reboot(off_s=100.0).live(5000.0)
    assert life.ran_at_s == [3600.0, 7200.0]


def test_every_begins_again_after_a_reboot_into_the_past() -> None:
    life = Life(ScheduleConfig(every=60.0)).live(90.0).reboot().set_clock(-1e8)
    life.live(100.0)
    assert life.ran_at_s == [60.0, 180.0]


# --- clocks that are set, and what is missed

HOURLY = ScheduleConfig(cron="0 * * * *", timezone="UTC")
NINE = datetime(2026, 11, 20, 9, 0, tzinfo=UTC).timestamp()
TEN = Moment(NINE + 3600, 4939.0)  # 61 s ago


def at(wall_s: float, boot_s: float = 5000.0) -> Moment:
    return Moment(wall_s, boot_s)


def ask(config: ScheduleConfig, after_s: float, now_s: float) -> schedule.Verdict:
    return assess(config, UTC, "job", at(after_s), at(now_s))


def test_counting_begins_where_nothing_was_counted() -> None:
    assert assess(HOURLY, UTC, "job", None, at(NINE)) == Begin(at(NINE))


def test_it_waits_on_the_clock_that_nobody_sets() -> None:
    assert ask(HOURLY, NINE, NINE + 60) == Wait(Moment(NINE + 3600, 5000.0 + 3540))


def test_a_slot_that_is_late_by_less_than_a_minute_is_not_missed() -> None:
    assert ask(HOURLY, NINE, NINE + 3600 + 60) == Run(Moment(NINE + 3600, 5000.0 - 60))


@pytest.mark.parametrize(
    ("missed", "verdict"),
    [
        (Missed.SKIP, PassOver(TEN, "the run of 2026-11-20 10:00 was missed, and not made up for")),
        (Missed.ONCE, Run(TEN, "the run of 2026-11-20 10:00 was missed; this run makes up for it")),
    ],
)
def test_a_slot_that_is_late_by_more_is_missed(missed: Missed, verdict: schedule.Verdict) -> None:
    config = ScheduleConfig(cron="0 * * * *", missed=missed)
    assert ask(config, NINE, NINE + 3600 + 61) == verdict


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    config = ScheduleConfig(cron="0 * * * *", missed=Missed.ONCE)
    verdict = ask(config, NINE, NINE + 30 * 3600 + 600)
    assert verdict == Run(
        at(NINE + 30 * 3600, 4400.0), "30 runs until 2026-11-21 15:00 were missed; this run makes up for them"
    )


def test_years_of_missed_minutes_are_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    real = next_after

    def counting(*args: Any) -> float:
        nonlocal asked
        asked += 1
        return real(*args)

    monkeypatch.setattr(schedule, "next_after", counting)
    for cron in ("* * * * *", "0 * * * *", "0 9 * * 1", "0 0 1 1 *", "0 0 29 2 *"):
        asked = 0
        verdict = ask(ScheduleConfig(cron=cron), NINE - 40 * 366 * 86400.0, NINE)
        assert isinstance(verdict, PassOver | Run)
        assert next_after(cron, UTC, verdict.slot.wall_s) > NINE, "the latest slot stands for the others"
        assert asked < 1000


def test_a_slot_ahead_of_a_clock_that_was_set_back_is_not_run_again() -> None:
    for back_s in (1.0, 600.0, 3 * 3600.0):
        assert ask(HOURLY, NINE, NINE - back_s) == Wait(Moment(NINE + 3600, 5000.0 + 3600 + back_s))


def test_a_clock_that_was_wrong_for_long_is_not_waited_for() -> None:
    year_s = 366 * 86400.0
    assert ask(HOURLY, NINE + year_s, NINE) == Begin(at(NINE))


def test_a_clock_that_is_set_forth_misses_what_is_jumped_over() -> None:
    life = Life(HOURLY, wall_s=NINE + 10).live(0.0).set_clock(2.5 * 3600).live(3600.0)
    assert life.told == ["2 runs until 2026-11-20 11:00 were missed, and not made up for", ""]


# --- jitter


def test_jitter_is_the_same_for_whoever_asks_and_differs_by_slot_and_daemon() -> None:
    config = ScheduleConfig(cron="0 * * * *", jitter=600.0)
    found = {
        (key, hour): assess(config, UTC, key, at(NINE + hour * 3600), at(NINE + hour * 3600))
        for key in ("one", "two")
        for hour in range(20)
    }
    late_s = []
    for (key, hour), verdict in found.items():
        assert isinstance(verdict, Wait)
        assert verdict == assess(config, UTC, key, at(NINE + hour * 3600), at(NINE + hour * 3600))
        late_s.append(verdict.until.wall_s - (NINE + (hour + 1) * 3600))
    assert all(0 <= each < 600 for each in late_s)
    assert len({round(each, 3) for each in late_s}) == len(late_s)
    assert max(late_s) > 450
    assert min(late_s) < 150


def test_jitter_does_not_move_the_slots() -> None:
    life = Life(ScheduleConfig(every=60.0, jitter=30.0)).live(600.0)
    begun_s = 1000.0
    assert [slot.boot_s for slot in life.ran] == [begun_s + 60 * n for n in range(1, len(life.ran) + 1)]
    assert all(0 <= at_s - 60 * n < 30 for n, at_s in enumerate(life.ran_at_s, 1))
    assert len({round(at_s % 60, 3) for at_s in life.ran_at_s}) == len(life.ran_at_s)


# --- words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * *", "has 4 fields; cron has 5 (minute, hour, day of month, month, day of week)"),
        ("0 * * * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("61 * * * *", "is not a cron expression: bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * * * FUNDAY", "bad day of week"),
        ("@dayly", "is not one of @yearly, @annually, @monthly"),
        ("0 0 30 2 *", "bad day of month"),
        ("0 0 */20 * 1L", "never comes: no day of the next 50 years"),
    ],
)
def test_wrong_expressions_are_refused_with_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        cron_fields(text)
    assert message in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["@daily", "  0   0 * *  * ", "@Midnight"])
def test_names_and_spaces_mean_the_five_fields(text: str) -> None:
    assert cron_fields(text) == "0 0 * * *"


def test_times_are_shown_in_the_zone_and_with_a_date_on_another_day() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    assert time_text(NINE, zone, today_s=NINE) == "14:30"
    assert time_text(NINE + 1, zone, today_s=NINE) == "14:30:01"
    assert time_text(NINE, zone, today_s=NINE + 10 * 3600) == "2026-11-20 14:30"


# --- bugs that a scheduler could have: each must be found by the walks above

_moments, _next_after, _due, _every = schedule._moments, schedule.next_after, schedule._due, schedule._assess_every
_late_by = iter(range(10**9))


def _never_twice(*args: Any) -> tuple[float, ...]:
    return _moments(*args)[:1]


def _always_twice(wall: datetime, zone: Any, fixed: bool) -> tuple[float, ...]:
    return _moments(wall, zone, fixed) if wall.replace(tzinfo=zone).fold else _moments(wall, zone, False)


def _drops_the_gap(wall: datetime, zone: Any, fixed: bool) -> tuple[float, ...]:
    return _moments(wall, zone, fixed) if _moments(wall, zone, False) else ()


def _drifts(config: Any, zone: Any, key: str, after: Moment, now: Moment, every_s: float) -> schedule.Verdict:
    verdict = _every(config, zone, key, after, now, every_s)
    return Run(after) if isinstance(verdict, Run) else verdict


def _takes_any_zone_for_utc(fields: str, zone: Any, after_s: float) -> float:
    return _next_after(fields, UTC, after_s)


def _runs_nothing_late(config: Any, zone: Any, slot: Moment, count: int, late_s: float) -> schedule.Verdict:
    return PassOver(slot, "missed") if count > 1 else _due(config, zone, slot, count, late_s)


BUGS: list[tuple[str, Callable[[int], None], str, Any]] = [
    ("an hour that comes twice counts once", check_next, "_moments", _never_twice),
    ("a time of day that comes twice counts twice", check_next, "_moments", _always_twice),
    ("a time of day in the gap is left out", check_next, "_moments", _drops_the_gap),
    ("what is after the gap comes an hour late", check_next, "_end_of_gap", lambda zone, before_s, behind_s: behind_s),
    ("the second of two equal hours is jumped over", check_next, "_OFFSET_CHANGES_WITHIN", timedelta(0)),
    ("every expression is a time of day", check_next, "_is_time_of_day", lambda fields: True),
    ("no expression is a time of day", check_next, "_is_time_of_day", lambda fields: False),
    ("zones mean nothing", check_next, "next_after", _takes_any_zone_for_utc),
    ("a clock that is set back makes slots come again", check_life, "CORRECTION_S", 0.0),
    ("jitter is thrown anew", check_life, "_jitter_s", lambda key, slot_s, jitter_s: next(_late_by) % 7 * 1e-3),
    ("a slot of every is not moved on", check_life, "_assess_every", _drifts),
    ("what was missed is never made up for", check_life, "_due", _runs_nothing_late),
    ("a far slot is made up", check_life, "_skip_ahead", lambda fields, zone, slot_s, until_s: until_s),
]


def _ask_all(check: Callable[[int], None]) -> None:
    for seed in range(SEEDS):
        check(seed)


@pytest.mark.parametrize(
    ("check", "attribute", "replacement"), [bug[1:] for bug in BUGS], ids=[bug[0].replace(" ", "-") for bug in BUGS]
)
def test_planted_bug_is_found(
    check: Callable[[int], None], attribute: str, replacement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, attribute, replacement)
    with pytest.raises(Broken):
        _ask_all(check)
