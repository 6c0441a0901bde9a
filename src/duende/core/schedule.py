"""When a scheduled daemon runs next: pure, from its schedule, the last slot that was dealt with, and both clocks.

A *slot* is a moment at which a run is due. Nothing is remembered but the last slot that was dealt with (`after`), so
whoever asks, whenever, gets the same answer, and a manager that takes over goes on where the other ended. `assess` says
what is to be done now: wait, run, pass over what was missed, or begin to count. Of several slots that have come, only
the latest matters: it stands for the others.

`every` counts on the boot-time clock, which goes on while the machine sleeps and which nobody sets. Slots lie on a grid
from the first one, so runs do not drift. After another boot the wall clock says how long ago the last slot was.

`cron` means wall-clock time in a zone. Slots are compared as Unix time, so no slot comes twice when the wall clock is
set back: nothing runs until it is where it was. A clock that is set back by more than `CORRECTION_S` was wrong before,
and counting begins anew. Where the zone's offset changes, the rules are those of Debian's cron (cron(8)):

- An expression whose minutes and hours are both fixed (neither begins with `*`) means a time of day, and runs once: for
  a time that is left out when clocks go forward, right after the gap; for one that comes twice, the first time.
- Any other means real time going by: what would be in the gap does not exist, and an hour that comes twice counts
  twice.

cronsim reads expressions and walks through naive wall-clock times; what these mean in a zone is decided here, since a
library that ticks through real hours loses whole ones where an offset changes by half an hour (Lord Howe).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from duende.model.schedule import Missed, Moment, ScheduleConfig

__all__ = [
    "Begin",
    "PassOver",
    "Run",
    "Verdict",
    "Wait",
    "assess",
    "cron_fields",
    "next_after",
    "shortest_gap_s",
    "time_text",
]

# cron(8), «Notes» on Debian: changes of the clock of three hours and more are corrections, and used at once.
CORRECTION_S = 3 * 3600.0
# A run that is late by less was not missed: a takeover, a short sleep, a busy machine. As systemd's AccuracySec=1min.
LATE_S = 60.0
COUNTED_MAX = 100  # missed slots that are told apart; a year of minutes is half a million
_LOOK_BACK_S = (3600.0, 86400.0, 32 * 86400.0, 367 * 86400.0, 9 * 367 * 86400.0)  # 29 February: eight years at most
_OFFSET_CHANGES_WITHIN = timedelta(hours=25)  # the longest that a fold can be away and still reach back to now

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
_SOME_MIDNIGHT = datetime(2024, 1, 1)  # of a leap year
_GAPS_LOOKED_AT = 24


@dataclass(frozen=True, slots=True)
class Begin:
    """Nothing to count from, or no longer: count from `at`."""

    at: Moment


@dataclass(frozen=True, slots=True)
class Wait:
    """The next run is due then."""

    until: Moment


@dataclass(frozen=True, slots=True)
class Run:
    """`slot` is due; `text` says what it makes up for, if it does."""

    slot: Moment
    text: str = ""


@dataclass(frozen=True, slots=True)
class PassOver:
    """What was missed up to `slot` is not made up for."""

    slot: Moment
    text: str


Verdict = Begin | Wait | Run | PassOver


def assess(config: ScheduleConfig, zone: tzinfo, key: str, after: Moment | None, now: Moment) -> Verdict:
    """Say what is to be done at `now`, when all slots up to `after` have been dealt with.

    `key` names the daemon: its jitter hangs on it.
    """
    assert now.boot_s is not None
    if after is None:
        return Begin(now)
    if config.every is not None:
        return _assess_every(config, zone, key, after, now, config.every)
    return _assess_cron(config, zone, key, after, now)


def cron_fields(text: str) -> str:
    """The five fields of an expression, with names such as `@daily` replaced. ValueError says what is wrong;
    ModuleNotFoundError that cronsim is not installed.
    """
    fields = _plain_fields(text)
    if fields.startswith("@"):
        raise ValueError(f'"{text[:60]}" is not one of {", ".join(_NAMED)}')
    if (count := len(fields.split())) != _FIELDS:
        wanted = "minute, hour, day of month, month, day of week"
        raise ValueError(f'"{text[:60]}" has {count} fields; cron has {_FIELDS} ({wanted})')
    from cronsim import CronSimError  # here: only who uses cron needs it

    try:
        found = next(_naive_times(fields, _SOME_MIDNIGHT), None)
    except CronSimError as error:
        raise ValueError(f'"{text[:60]}" is not a cron expression: {_plain(str(error))}') from None
    if found is None:
        raise ValueError(f'"{text[:60]}" never comes: no day of the next 50 years is like that')
    return fields


def next_after(fields: str, zone: tzinfo, after_s: float) -> float:
    """The first slot of a cron expression later than `after_s`, both in Unix time."""
    now = datetime.fromtimestamp(math.floor(after_s), UTC)  # it would round up to a slot that is a microsecond away
    local = now.astimezone(zone)
    naive = local.replace(tzinfo=None, fold=0)
    fixed = _is_time_of_day(fields)
    goes_back = _offset(local) - _offset((now + _OFFSET_CHANGES_WITHIN).astimezone(zone))
    may_come_again = not fixed and goes_back > timedelta(0)
    if may_come_again:  # clocks go back soon: times of day that are over may come once more
        naive -= goes_back
    best_s: float | None = None
    for wall in _naive_times(fields, naive):
        moments = _moments(wall, zone, fixed)
        if best_s is not None and moments and moments[0] >= best_s:
            return best_s
        best_s = min((at_s for at_s in (*moments, best_s) if at_s is not None and at_s > after_s), default=None)
        if best_s is not None and not may_come_again:
            return best_s
    raise ValueError(f"{fields!r} never comes")  # `cron_fields` refuses such


def shortest_gap_s(text: str) -> float:
    """The shortest time between two slots of a cron expression, among the first ones after some midnight."""
    times = list(itertools.islice(_naive_times(_plain_fields(text), _SOME_MIDNIGHT), _GAPS_LOOKED_AT + 1))
    return min((later - earlier).total_seconds() for earlier, later in itertools.pairwise(times))


def time_text(moment_s: float, zone: tzinfo, *, today_s: float | None = None) -> str:
    """A moment for people, in the zone of the schedule; without its date where that is the date of `today_s`."""
    at = datetime.fromtimestamp(moment_s, zone)
    time = f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
    if today_s is not None and at.date() == datetime.fromtimestamp(today_s, zone).date():
        return time
    return f"{at:%Y-%m-%d} {time}"


# --- every


def _assess_every(
    config: ScheduleConfig, zone: tzinfo, key: str, after: Moment, now: Moment, every_s: float
) -> Verdict:
    assert now.boot_s is not None
    if after.boot_s is None:  # of another boot; how long ago that was only the wall clock can say
        ago_s = max(now.wall_s - after.wall_s, 0.0)
        return Begin(Moment(now.wall_s - ago_s, now.boot_s - ago_s))

    def slot(n: int) -> Moment:
        assert after.boot_s is not None
        assert now.boot_s is not None
        at_s = after.boot_s + n * every_s
        return Moment(now.wall_s - (now.boot_s - at_s), at_s)

    def due_s(n: int) -> float:
        at_s = slot(n).boot_s or 0.0
        return at_s + _jitter_s(key, at_s, config.jitter)

    n = max(int((now.boot_s - after.boot_s) / every_s) - 1, 0)
    while due_s(n + 1) <= now.boot_s:
        n += 1
    if n == 0:
        late_s = due_s(1)
        return Wait(Moment(now.wall_s + (late_s - now.boot_s), late_s))
    return _due(config, zone, slot(n), n, now.boot_s - due_s(n))


# --- cron


def _assess_cron(config: ScheduleConfig, zone: tzinfo, key: str, after: Moment, now: Moment) -> Verdict:
    assert config.cron is not None
    assert now.boot_s is not None
    if after.wall_s > now.wall_s + CORRECTION_S:
        return Begin(now)
    fields = _plain_fields(config.cron)

    def due_s(slot_s: float) -> float:
        return slot_s + _jitter_s(key, slot_s, config.jitter)

    slot_s = next_after(fields, zone, after.wall_s)
    if due_s(slot_s) > now.wall_s:
        return Wait(Moment(due_s(slot_s), now.boot_s + (due_s(slot_s) - now.wall_s)))
    count = 1
    while (later_s := next_after(fields, zone, slot_s)) and due_s(later_s) <= now.wall_s:
        slot_s, count = later_s, count + 1
        if count > COUNTED_MAX:
            slot_s = _skip_ahead(fields, zone, slot_s, now.wall_s - config.jitter)
    slot = Moment(slot_s, now.boot_s - (now.wall_s - slot_s))
    return _due(config, zone, slot, count, now.wall_s - due_s(slot_s))


def _skip_ahead(fields: str, zone: tzinfo, slot_s: float, until_s: float) -> float:
    """A slot between `slot_s` and `until_s` that is near enough to the end to walk the rest."""
    for back_s in _LOOK_BACK_S:
        if until_s - back_s <= slot_s:
            return slot_s
        if (found_s := next_after(fields, zone, until_s - back_s)) <= until_s:
            return found_s
    return slot_s


def _plain_fields(text: str) -> str:
    fields = " ".join(text.split())
    return _NAMED.get(fields.lower(), fields)


def _naive_times(fields: str, after: datetime) -> Iterator[datetime]:
    """The wall-clock times of an expression, as if no zone ever changed its offset."""
    from cronsim import CronSim  # here: only who uses cron needs it

    return CronSim(fields, after)


def _moments(wall: datetime, zone: tzinfo, fixed: bool) -> tuple[float, ...]:
    """When a wall-clock time happens in Unix time: not at all, once or twice, in order; once if it is `fixed`."""
    first = wall.replace(tzinfo=zone, fold=0)
    second = wall.replace(tzinfo=zone, fold=1)
    first_s, second_s = first.timestamp(), second.timestamp()
    if first_s == second_s:
        return (first_s,)
    if first_s < second_s:
        return (first_s,) if fixed else (first_s, second_s)
    return (_end_of_gap(zone, second_s, first_s),) if fixed else ()  # PEP 495: in a gap the two are the other way round


def _end_of_gap(zone: tzinfo, before_s: float, behind_s: float) -> float:
    """The moment between the two at which the zone's offset changes, to the second."""
    low, high = int(before_s), int(behind_s)
    offset = _offset(datetime.fromtimestamp(low, zone))
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, zone)) == offset:
            low = middle
        else:
            high = middle
    return float(high)


def _offset(at: datetime) -> timedelta:
    return at.utcoffset() or timedelta(0)


def _is_time_of_day(fields: str) -> bool:
    minutes, hours, *_ = fields.split()
    return not minutes.startswith("*") and not hours.startswith("*")


def _plain(text: str) -> str:
    """cronsim says `Bad day-of-week`."""
    return f"bad {text.removeprefix('Bad ').replace('-', ' ')}" if text.startswith("Bad ") else text


# --- both


def _due(config: ScheduleConfig, zone: tzinfo, slot: Moment, count: int, late_s: float) -> Verdict:
    """The latest of `count` slots has come."""
    shown = "more than 100" if count > COUNTED_MAX else str(count)
    until = time_text(slot.wall_s, zone)
    if late_s > LATE_S:
        what = f"the run of {until} was missed" if count == 1 else f"{shown} runs until {until} were missed"
        if config.missed is Missed.SKIP:
            return PassOver(slot, f"{what}, and not made up for")
        return Run(slot, f"{what}; this run makes up for {'it' if count == 1 else 'them'}")
    if count > 1:
        earlier = "more than 100" if count > COUNTED_MAX else str(count - 1)
        return Run(slot, f"{earlier} earlier {'run was' if count == 2 else 'runs were'} missed")
    return Run(slot)


def _jitter_s(key: str, slot_s: float, jitter_s: float) -> float:
    """From 0 to `jitter_s`, the same whenever and by whomever it is asked for the same slot of the same daemon."""
    if jitter_s <= 0.0:
        return 0.0
    import hashlib  # here: few have jitter, and it loads OpenSSL

    digest = hashlib.sha256(f"{key} {slot_s:.3f}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * jitter_s
