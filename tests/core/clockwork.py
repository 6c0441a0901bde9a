"""What a schedule must do, said a second time and in another way: minute by minute, with no cleverness.

`oracle` walks through real minutes and asks of each whether cron would run then. `Life` lets time pass for one daemon
with a schedule and does what the core says, while somebody sets clocks and reboots; it writes down what ran.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from duende.core import schedule
from duende.model.schedule import Missed, Moment, ScheduleConfig

# An hour forth and back, half an hour, none, midnight that does not exist, the south, and a zone that lost a whole day.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Cairo", "America/Santiago",
    "Pacific/Apia",
)  # fmt: skip
MINUTE = timedelta(minutes=1)
CORRECTION_S = 3 * 3600.0  # as documented; what the module says may be a bug


class Broken(AssertionError):
    """A rule of schedules does not hold."""


def demand(holds: bool, text: str, *shown: object) -> None:
    if not holds:
        raise Broken(" ".join([text, *map(str, shown)]))


def oracle(fields: str, zone: tzinfo, after_s: float, *, limit_minutes: int = 60 * 50) -> float | None:
    """The first minute later than `after_s` at which the expression's run is due; None if none comes soon."""
    fixed = not any(field.startswith("*") for field in fields.split()[:2])
    at = datetime.fromtimestamp(after_s // 60 * 60, UTC)
    before = at.astimezone(zone).replace(tzinfo=None)
    for _ in range(limit_minutes):
        at += MINUTE
        local = at.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        skipped = []
        while fixed and before + MINUTE < wall:  # clocks went forward in between
            before += MINUTE
            skipped.append(before)
        before = wall
        due = _matches(fields, wall) and not (fixed and local.fold)
        if (due or any(_matches(fields, each) for each in skipped)) and at.timestamp() > after_s:
            return at.timestamp()
    return None


def _matches(fields: str, wall: datetime) -> bool:
    values = (wall.minute, wall.hour, wall.day, wall.month, wall.isoweekday() % 7)
    lows = (0, 0, 1, 1, 0)
    return all(_has(field, value, low) for field, value, low in zip(fields.split(), values, lows, strict=True))


def _has(field: str, value: int, low: int) -> bool:
    if field.startswith("*"):
        return (value - low) % int(field[2:] or "1") == 0
    return value in {int(each) for each in field.split(",")}


def random_fields(chance: random.Random) -> str:
    """Any minutes and hours, seldom a day: what is rare has no gaps to fall into."""
    minute = chance.choice(("*", "*/5", "*/30", "*/7", "0", "30", "15,45", "59", str(chance.randrange(60))))
    hour = chance.choice(("*", "*/2", "*/3", "0", "1", "2", "3", "1,2,3", "0,23", str(chance.randrange(24))))
    day = chance.choice(("*", "*", "*", "*/2"))
    return f"{minute} {hour} {day} * {chance.choice(('*', '*', '*', '0,3,6'))}"


def random_moment(chance: random.Random, zone: tzinfo) -> float:
    """Mostly within an hour of a change of the zone's offset, where there is one."""
    year = chance.choice((2011, 2026)) if str(zone) == "Pacific/Apia" else chance.choice((2026, 2027))
    changes, start = changes_of(zone, year), datetime(year, 1, 1, tzinfo=UTC)
    anywhere = start + timedelta(hours=chance.randrange(365 * 24))
    near = chance.choice(changes) if changes and chance.random() < 0.9 else anywhere
    return near.timestamp() + chance.choice((chance.uniform(-3600, 3600), chance.uniform(-300, 0)))


@functools.cache
def changes_of(zone: tzinfo, year: int) -> list[datetime]:
    """When the zone's offset changes, to half an hour."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    moments = (start + timedelta(minutes=30 * n) for n in range(365 * 48))
    pairs = itertools.pairwise((moment, moment.astimezone(zone).utcoffset()) for moment in moments)
    return [moment for (_, before), (moment, behind) in pairs if before != behind]


def check_next(seed: int) -> None:
    """One random question to `next_after`, and the oracle's answer."""
    chance = random.Random(seed)
    zone = ZoneInfo(chance.choice(ZONES))
    fields, at_s = random_fields(chance), random_moment(chance, zone)
    for _ in range(4):
        expected_s = oracle(fields, zone, at_s)
        if expected_s is None:
            return
        found_s = schedule.next_after(fields, zone, at_s)
        shown = [datetime.fromtimestamp(each, zone).isoformat() for each in (at_s, found_s, expected_s)]
        demand(found_s == expected_s, f"{fields} {zone}: after {shown[0]} comes {shown[1]}, expected {shown[2]}")
        at_s = found_s


@dataclass
class Life:
    """Two clocks, a schedule, and what ran: slots as Unix time for cron, since boot for `every`."""

    config: ScheduleConfig
    zone: tzinfo = UTC
    wall_s: float = 1_790_000_000.0
    boot_s: float = 1000.0
    mark: Moment | None = None
    ran: list[Moment] = field(default_factory=list)
    rows: list[list[Moment]] = field(default_factory=list)  # the same, anew wherever counting begins
    ran_at_s: list[float] = field(default_factory=list)  # on a clock that nobody sets and no boot ends
    told: list[str] = field(default_factory=list)
    real_s: float = 0.0

    @property
    def now(self) -> Moment:
        return Moment(self.wall_s, self.boot_s)

    def ask(self) -> schedule.Verdict:
        verdict = schedule.assess(self.config, self.zone, "job", self.mark, self.now)
        again = schedule.assess(self.config, self.zone, "job", self.mark, self.now)
        demand(verdict == again, "another manager would do something else", verdict, again)
        return verdict

    def live(self, for_s: float) -> Life:
        """A manager is there for so long; it sleeps until what the core says, not longer."""
        end_s = self.real_s + for_s
        while True:
            match self.ask():
                case schedule.Wait(until):
                    assert until.boot_s is not None
                    demand(until.boot_s > self.boot_s, "waits for what is over", until, self.now)
                    if self.real_s + (until.boot_s - self.boot_s) > end_s:
                        return self.pass_time(end_s - self.real_s)
                    self.pass_time(until.boot_s - self.boot_s)
                case schedule.Run(slot, text):
                    self.note(slot)
                    self.ran.append(slot)
                    self.rows[-1].append(slot)
                    self.ran_at_s.append(self.real_s)
                    self.told.append(text)
                case schedule.PassOver(slot, text):
                    demand(bool(text), "passed over without a word", slot)
                    self.note(slot)
                    self.told.append(text)
                case schedule.Begin(at):
                    was_wrong = self.mark and self.mark.wall_s > self.wall_s + CORRECTION_S
                    excused = self.mark is None or self.mark.boot_s is None or was_wrong
                    demand(bool(excused), "counting begins anew for no reason", self.mark, self.now)
                    self.mark = at
                    self.rows.append([])

    def note(self, slot: Moment) -> None:
        assert self.mark is not None
        demand(slot != self.mark, "a slot that was dealt with comes again", slot)
        self.mark = slot

    def pass_time(self, for_s: float) -> Life:
        """Nobody looks."""
        self.wall_s += for_s
        self.boot_s += for_s
        self.real_s += for_s
        return self

    def set_clock(self, by_s: float) -> Life:
        self.wall_s += by_s
        return self

    def reboot(self, off_s: float = 30.0) -> Life:
        self.pass_time(off_s)
        self.boot_s = 5.0
        self.mark = Moment(self.mark.wall_s, None) if self.mark else None
        return self


def check_life(seed: int) -> None:
    """A random life with mischief: every slot at most once, none early, none forgotten while somebody looks."""
    chance = random.Random(seed)
    every_s = chance.choice((1.0, 60.0, 3600.0, 86400.0))
    cron = chance.choice(("*/5 * * * *", "0 * * * *", "30 2 * * *"))
    by_clock = chance.random() < 0.6
    config = ScheduleConfig(
        cron=cron if by_clock else None, every=None if by_clock else every_s, missed=chance.choice(tuple(Missed)),
        jitter=chance.choice((0.0, 0.5)),
    )  # fmt: skip
    life = Life(config, ZoneInfo(chance.choice(ZONES)) if by_clock else UTC)
    step_s = 300.0 if by_clock else every_s
    for _ in range(12):
        mischief: Callable[[], object] = chance.choice((
            lambda: None, lambda: life.pass_time(chance.uniform(0, chance.choice((30, 300)) * step_s)),
            lambda: life.set_clock(chance.uniform(-1.5, 1.5) * step_s),
            lambda: life.set_clock(-chance.uniform(4, 400) * 3600),
            lambda: life.reboot(chance.uniform(0, 3 * step_s)),
        ))  # fmt: skip
        before_s, marked = life.wall_s, life.mark.wall_s if life.mark else 0.0
        runs = len(life.ran)
        mischief()
        life.live(0.0)
        demand(len(life.ran) - runs <= 1, "more than one run makes up for what was missed", life.ran[runs:])
        if by_clock and life.wall_s > before_s and config.missed is Missed.ONCE and marked:
            due = schedule.next_after(cron, life.zone, marked) + config.jitter <= life.wall_s
            demand(not due or len(life.ran) > runs, "a missed run is not made up for", life.now)
        life.live(chance.uniform(0, 10 * step_s))
    check_ran(life)


def check_ran(life: Life) -> None:
    """On what a life has written down."""
    every_s = life.config.every
    for row in life.rows:
        for earlier, later in itertools.pairwise(row):
            if every_s is None:
                demand(later.wall_s > earlier.wall_s, "a slot comes again, or late", earlier, later)
            else:
                away = ((later.boot_s or 0.0) - (earlier.boot_s or 0.0)) / every_s
                demand(away > 0.5 and abs(away - round(away)) < 1e-6, "not on the grid", earlier, later)
    for slot in life.ran if life.config.cron is not None else ():
        next_s = schedule.next_after(life.config.cron or "", life.zone, slot.wall_s - 0.001)
        demand(next_s == slot.wall_s, "not a slot", slot)
