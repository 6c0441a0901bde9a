"""What must always hold in a daemon's life, checked against books that are kept apart from the core's own state."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duende.core.effects import ArmTimer, Effect, KillTree, Note, NoteKind, RunStopCommand, SendSignal, Spawn
from duende.core.events import (
    BecameReady,
    BecameUnhealthy,
    BecameUnready,
    DependenciesMet,
    Event,
    Exited,
    KillRequested,
    PolicyChanged,
    RestartRequested,
    RunDue,
    SaidReady,
    ScheduleResumed,
    SlotPassed,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    StopStepFailed,
    TimeAskedFor,
    TimerFired,
)
from duende.core.lifecycle import KILL_RETRY_S, TABLE
from duende.core.state import DaemonState, Timer, TimerKind
from duende.model.exits import ExitReason
from duende.model.schedule import Moment, Overlap
from duende.model.signals import Signal
from duende.model.status import DaemonStatus, FailureReason

if TYPE_CHECKING:
    from .walk import Walk

_NO_INSTANCE = (DaemonStatus.CREATED, DaemonStatus.STOPPED, DaemonStatus.BACKOFF, DaemonStatus.FAILED)
_TIMERS_OF = {
    DaemonStatus.STARTING: {TimerKind.START},
    DaemonStatus.STOPPING: {TimerKind.STOP, TimerKind.KILL},
    DaemonStatus.BACKOFF: {TimerKind.BACKOFF},
    DaemonStatus.FAILED: {TimerKind.RETRY},
}


INVARIANTS = frozenset(
    {
        "backoff",
        "bounded",
        "change noted",
        "comes to rest",
        "comes up",
        "completed means it",
        "crash limit",
        "deadlines",
        "escalation noted",
        "executed",
        "failure has a reason",
        "grace",
        "held is woken",
        "kill mode",
        "ladder in order",
        "late or unlisted",
        "max retries",
        "not stuck",
        "nothing left behind",
        "nothing runs after a stop",
        "numbers rise by one",
        "one incarnation",
        "one stop signal",
        "only struck",
        "permanent exit",
        "queued run follows",
        "readiness counts",
        "restarts counted",
        "running is ready",
        "signal only executed",
        "slots noted",
        "spawn not blocked",
        "spawn only wanted",
        "status has its instance",
        "stop is carried out",
        "stop is obeyed",
        "stopping has a way out",
        "stored and read back",
        "table",
        "time is not cut short",
        "timers fit",
        "timers in state",
        "token reused",
        "unique timers",
        "unready is left alone",
        "wanted is the user's word",
    }
)


class Violation(AssertionError):
    """An invariant is broken; `name` says which."""

    def __init__(self, name: str, text: str) -> None:
        assert name in INVARIANTS, f"{name!r} is not listed"
        super().__init__(f"[{name}] {text}")
        self.name = name


@dataclass(slots=True)
class Books:
    """What was asked, what was told and what was done, as an outsider would write it down."""

    wants_run: bool = False  # the last request was to run
    wanted: bool = False  # the same, but a stop for now leaves it
    blocked: bool = False  # … but only once dependencies are met
    kill_asked: set[int] = field(default_factory=set)  # incarnations that need no grace
    unended: set[int] = field(default_factory=set)  # spawned, and their end has not been told
    executed: set[int] = field(default_factory=set)
    told_ready: set[int] = field(default_factory=set)
    rungs: dict[int, list[str]] = field(default_factory=dict)  # incarnation: the steps of the stop ladder taken
    kills: set[int] = field(default_factory=set)
    tokens: set[int] = field(default_factory=set)
    slot: Moment | None = None  # of its schedule: the last that was dealt with
    queued: bool = False  # a slot came while it ran, and its run is still to come
    row: int = 0  # automatic restarts in the present row
    ready_at_s: float | None = None
    failures_s: list[float] = field(default_factory=list)  # since the last request
    last_end_good: bool = False
    timers: tuple[Timer, ...] = ()  # as they were before this step

    def note_request(self, event: Event, status: DaemonStatus) -> None:
        """Write down what somebody asked for; what runs already has nothing to wait for."""
        match event:
            case StartRequested(blocked):
                self.wants_run = self.wanted = True
                self.blocked = blocked and (status in _NO_INSTANCE or status is DaemonStatus.STOPPING)
                self.queued = self.queued and status is not DaemonStatus.STOPPING
            case RestartRequested():
                self.wants_run = self.wanted = True
                self.blocked = self.queued = False
            case StopRequested(for_now):
                self.wants_run = self.blocked = self.queued = False
                self.wanted = self.wanted and for_now
            case KillRequested():
                self.wants_run = self.blocked = self.wanted = self.queued = False
            case ScheduleResumed() if status is DaemonStatus.CREATED:
                self.wanted = True
            case DependenciesMet():
                self.blocked = False
        if not self.wanted:
            self.slot = None

    def note_slot(self, event: Event, before: DaemonState) -> None:
        """Write down what a slot of its schedule asks for, if it is the next one and anybody wants its schedule."""
        scheduled = self.wanted and before.policy.overlap is not None
        if not isinstance(event, RunDue | SlotPassed) or not scheduled or event.after != self.slot:
            return
        self.slot = event.slot
        leaves = before.status is DaemonStatus.STOPPING and not (before.start_again or before.stop_cause)
        if isinstance(event, SlotPassed) or leaves or self.blocked:
            return
        if before.status in _NO_INSTANCE:
            self.wants_run, self.blocked = True, event.blocked
        elif before.policy.overlap is Overlap.QUEUE:
            self.queued = True


def demand(holds: bool, name: str, text: str, *shown: object) -> None:
    """Raise Violation unless it holds. What is long to write is in `shown`: it takes its time only then."""
    if not holds:
        raise Violation(name, " ".join([text, *map(str, shown)]))


def check_step(walk: Walk, before: DaemonState, event: Event, effects: tuple[Effect, ...]) -> None:
    """Everything that can be said after one step, then bring the books up to date."""
    books, after = walk.books, walk.state
    demand(after.wanted == books.wanted, "wanted is the user's word", f"{event} made it {after.wanted}")
    late = getattr(event, "instance", before.instance) != before.instance
    if isinstance(event, TimerFired):
        late = event.token not in {timer.token for timer in before.timers}
    if isinstance(event, RunDue):
        late = event.after != before.slot or not before.wanted or before.policy.overlap is None
    _check_table(before, event, effects, after, late)
    _check_probes(before, event, effects, after)
    if isinstance(event, KillRequested):
        books.kill_asked.add(before.instance)
    if not late:
        _write_down(walk, before, event)
    for effect in effects:
        match effect:
            case Spawn(number):
                _check_spawn(walk, before, event, number)
            case SendSignal() if not _is_struck(event):
                _check_signal(walk, before, effect)
            case RunStopCommand(number, rung, command):
                demand(rung == after.stop_step, "ladder in order", f"{effect} on rung {after.stop_step}")
                _check_rung(walk, number, " ".join(command))
            case KillTree():
                _check_kill(walk, event, effect, effects)
            case ArmTimer(token, deadline_s):
                demand(token not in books.tokens, "token reused", f"token {token} again")
                books.tokens.add(token)
                _check_deadline(walk, event, token, deadline_s)
    if before.status is DaemonStatus.PAUSED and isinstance(event, StopRequested | RestartRequested):
        woken = SendSignal(before.instance, int(Signal.CONT), before.policy.stop_tree) in effects
        demand(woken, "held is woken", "stopped while paused, without SIGCONT")
    _check_state(walk, before)


def _is_struck(event: Event) -> bool:
    return isinstance(event, BecameUnhealthy) and event.signal is not None


def _check_probes(before: DaemonState, event: Event, effects: tuple[Effect, ...], after: DaemonState) -> None:
    """What probes say stops nobody, save where it is to; and more time never means less."""
    if isinstance(event, BecameUnready | SaidReady):
        calm = after.status is before.status and all(isinstance(effect, Note) for effect in effects)
        demand(calm, "unready is left alone", f"{event} led to {after.status.value}, {effects}")
    if _is_struck(event):
        calm = after.status is before.status and after.timers == before.timers
        demand(calm and len(effects) in (0, 2), "only struck", f"{event} led to {after.status.value}, {effects}")
    if isinstance(event, TimeAskedFor):
        for timer in before.timers:
            now = after.timer(timer.kind)
            longer = now is not None and now.deadline_s >= timer.deadline_s
            demand(longer, "time is not cut short", f"{event} made {timer} {now}")


def _write_down(walk: Walk, before: DaemonState, event: Event) -> None:
    books = walk.books
    match event:
        case Spawned(number, awaits_ready) if number in books.unended - books.executed:
            books.executed.add(number)
            if not awaits_ready:
                books.told_ready.add(number)
        case BecameReady(number):
            books.told_ready.add(number)
        case Exited(number, exit_info) | SpawnFailed(number, exit_info) if number in books.unended:
            if isinstance(event, SpawnFailed) and number in books.executed:
                return
            books.unended.discard(number)
            rules = before.policy.restart
            good = exit_info.reason is ExitReason.GRACEFUL or exit_info.code in rules.success_exit_codes
            books.last_end_good = good and isinstance(event, Exited) and not before.stop_cause
            asked = before.status is DaemonStatus.STOPPING and not before.stop_cause
            if books.ready_at_s is not None and walk.now_s - books.ready_at_s >= rules.reset_after:
                books.row = 0
            if not asked and not books.last_end_good:
                books.failures_s.append(walk.now_s)
            books.ready_at_s = None
            if not asked:
                permanent = exit_info.code in rules.permanent_exit_codes
                demand(
                    not permanent or before.queued or walk.state.failure is FailureReason.PERMANENT_EXIT,
                    "permanent exit", f"code {exit_info.code} led to {walk.state.status.value}",
                )  # fmt: skip
    if walk.state.ready and walk.state.executed and (books.ready_at_s is None or not before.ready):
        books.ready_at_s = walk.now_s


def _check_table(
    before: DaemonState, event: Event, effects: tuple[Effect, ...], after: DaemonState, late: bool
) -> None:
    if isinstance(event, PolicyChanged):
        demand(after.status is before.status and not effects, "table", "a new policy did something at once")
        return
    if isinstance(event, SlotPassed):
        told_only = all(isinstance(effect, Note) for effect in effects)
        demand(after.status is before.status and told_only, "table", "a slot without a run did something")
        return
    row = TABLE.get((before.status, type(event)))
    if row is None or late:
        demand(after == before and not effects, "late or unlisted", f"{event} in {before.status.value} did something")
        return
    changed = after.status is not before.status
    demand(not changed or after.status in row.leads_to, "table", f"{before.status} -> {after.status}")
    told = any(isinstance(effect, Note) and effect.kind is NoteKind.STATUS for effect in effects)
    demand(not changed or told, "change noted", f"{before.status} -> {after.status} without a note")


def _check_spawn(walk: Walk, before: DaemonState, event: Event, number: int) -> None:
    books, rules = walk.books, walk.state.policy.restart
    demand(not books.unended, "one incarnation", f"spawn {number} while {books.unended} has not ended")
    demand(not walk.alive(), "one incarnation", f"spawn {number} while another exists")
    demand(books.wants_run, "spawn only wanted", f"spawn {number} after {event}, and nobody wants it")
    demand(not books.blocked, "spawn not blocked", f"spawn {number} before its dependencies")
    demand(number == before.instance + 1, "numbers rise by one", f"spawn {number} after {before.instance}")
    by_hand = isinstance(event, StartRequested | RestartRequested | DependenciesMet) or before.start_again
    follows = before.queued and not walk.state.queued
    demand(books.queued or not follows, "queued run follows", f"spawn {number}, and no slot is queued")
    if follows:
        books.queued = False
    if by_hand or follows or isinstance(event, RunDue):
        books.row, books.failures_s = 0, []
        demand(walk.state.restarts == before.restarts, "restarts counted", f"{walk.state.restarts} after one by hand")
    else:
        anew = before.status is DaemonStatus.FAILED  # given up, and its time to be tried again has come
        books.row, books.failures_s = (0, []) if anew else (books.row + 1, books.failures_s)
        limit = rules.backoff.max_retries
        demand(limit is None or books.row <= limit, "max retries", f"restart {books.row} of at most {limit}")
        last_s = books.failures_s[-1] if books.failures_s else 0.0
        recent = [at_s for at_s in books.failures_s if last_s - at_s < rules.crash_window]
        limit = rules.crash_limit
        demand(not limit or len(recent) < limit, "crash limit", f"{len(recent)} failures in the window, limit {limit}")
        demand(walk.state.restarts == before.restarts + 1, "restarts counted", f"{walk.state.restarts}")
    books.unended.add(number)
    books.ready_at_s = None


def _check_signal(walk: Walk, before: DaemonState, effect: SendSignal) -> None:
    books = walk.books
    demand(effect.instance in books.executed, "signal only executed", f"{effect} before Spawned")
    demand(effect.tree == walk.state.policy.stop_tree, "kill mode", f"{effect} against the policy")
    if effect.signal == Signal.CONT:
        return
    _check_rung(walk, effect.instance, Signal(effect.signal).full_name)


def _check_rung(walk: Walk, number: int, what: str) -> None:
    books, ladder = walk.books, walk.state.policy.ladder
    demand(number in books.executed, "signal only executed", f"{what} before Spawned")
    taken = books.rungs.setdefault(number, [])
    taken.append(what)
    demand(len(taken) <= len(ladder), "one stop signal", f"{taken} to {number}")
    expected = [str(step) for step in ladder[: len(taken)]]
    demand(len(ladder) > 1 or taken == expected, "one stop signal", f"{taken} to {number}")
    demand(taken == expected, "ladder in order", f"{taken} to {number}, expected {expected}")
    demand(number not in books.kills, "one stop signal", f"{what} after SIGKILL")


def _check_kill(walk: Walk, event: Event, effect: KillTree, effects: tuple[Effect, ...]) -> None:
    books, number = walk.books, effect.instance
    demand(number in books.executed, "signal only executed", f"{effect} before Spawned")
    demand(effect.leader_only == walk.state.policy.kill_leader_only, "kill mode", f"{effect} against the policy")
    polite = [str(step) for step in walk.state.policy.ladder if step.signal is not Signal.KILL]
    if number not in books.kill_asked and polite:
        demand(books.rungs.get(number, []) == polite, "grace", f"{effect} after {books.rungs.get(number)}")
        told = any(isinstance(each, Note) and each.kind is NoteKind.ESCALATED for each in effects)
        demand(told, "escalation noted", f"{effect} without a word")
    if number not in books.kills and number not in books.kill_asked and polite:
        timer = next((timer for timer in books.timers if timer.kind is TimerKind.STOP), None)
        due = timer is not None and walk.now_s >= timer.deadline_s
        demand(due or isinstance(event, StopStepFailed), "grace", f"{effect} at {walk.now_s}, before {timer}")
    books.kills.add(number)


def _check_deadline(walk: Walk, event: Event, token: int, deadline_s: float) -> None:
    policy, now_s = walk.state.policy, walk.now_s
    timer = next((timer for timer in walk.state.timers if timer.token == token), None)
    demand(
        timer is not None and timer.deadline_s == deadline_s, "timers in state", f"token {token} is not in the state"
    )
    assert timer is not None
    if isinstance(event, TimeAskedFor):
        demand(deadline_s == event.until_s, "deadlines", f"{deadline_s}, and {event.until_s} was asked for")
        return
    match timer.kind:
        case TimerKind.STOP:
            demand(
                deadline_s == now_s + policy.ladder[walk.state.stop_step].wait_s,
                "deadlines",
                f"stop by {deadline_s} at {now_s}",
            )
        case TimerKind.KILL:
            demand(deadline_s == now_s + KILL_RETRY_S, "deadlines", f"kill again at {deadline_s} at {now_s}")
        case TimerKind.START:
            demand(deadline_s == now_s + policy.start_timeout_s, "deadlines", f"ready by {deadline_s} at {now_s}")
        case TimerKind.RETRY:
            demand(deadline_s == now_s + policy.restart.retry_in, "deadlines", f"anew at {deadline_s} at {now_s}")
            hopeful = (FailureReason.CRASH_LIMIT, FailureReason.MAX_RETRIES)
            demand(walk.state.failure in hopeful, "permanent exit", f"{walk.state.failure} is to be tried again")
        case TimerKind.BACKOFF:
            backoff = policy.restart.backoff
            middle_s = backoff.delay_for(walk.books.row)
            delay_s, spread_s = deadline_s - now_s, middle_s * backoff.jitter + 1e-9
            near = abs(delay_s - middle_s) <= spread_s and delay_s <= backoff.max_delay + 1e-9
            demand(near, "backoff", f"waits {delay_s}, row {walk.books.row}, middle {middle_s}")


def _check_state(walk: Walk, before: DaemonState) -> None:
    books, state = walk.books, walk.state
    if state.status in _NO_INSTANCE:
        demand(not books.unended, "nothing left behind", f"{state.status.value}, but {books.unended} has not ended")
    else:
        demand(books.unended == {state.instance}, "status has its instance", f"{state.status.value}: {books.unended}")
        demand(state.executed == (state.instance in books.executed), "executed", "executed is", state)
    kinds = [timer.kind for timer in state.timers]
    demand(len(kinds) == len(set(kinds)), "unique timers", f"{kinds}")
    demand(set(kinds) <= _TIMERS_OF.get(state.status, set()), "timers fit", f"{kinds} in {state.status.value}")
    if state.status is DaemonStatus.STOPPING and state.executed:
        demand(bool(kinds), "stopping has a way out", "STOPPING without a timer")
        told = state.instance in {*books.kill_asked, *books.rungs, *books.kills}
        demand(told, "stop is carried out", "STOPPING, executed, and no signal was sent")
    if state.status is DaemonStatus.BACKOFF:
        demand(bool(kinds) != state.waiting, "not stuck", "BACKOFF with neither timer nor dependency to wait for")
    if state.policy.overlap is not None:
        demand(state.slot == books.slot, "slots noted", f"{state.slot} is noted, {books.slot} has come")
        rests = state.status in _NO_INSTANCE
        demand(state.queued == books.queued and not (rests and state.queued), "queued run follows", f"{state.queued}")
    _check_wanted(walk, before)
    if state.status is DaemonStatus.RUNNING:
        is_ready = state.ready or state.unready_cause != ""
        demand(is_ready and state.executed and state.ready_s is not None, "running is ready", "not:", state)
    demand(not (state.ready and state.unready_cause), "running is ready", "ready, with a cause why not:", state)
    if state.status is DaemonStatus.STARTING and state.executed:
        demand(state.instance not in books.told_ready, "readiness counts", "told ready, and still STARTING")
    limit = max(state.policy.restart.crash_limit - 1, 0)
    demand(len(state.failures_s) <= limit, "bounded", f"{len(state.failures_s)} failures kept, limit {limit}")
    stored = DaemonState.from_json(json.loads(json.dumps(state.to_json())), state.policy)
    demand(stored == state, "stored and read back", "not equal:", stored, state)
    books.timers = state.timers


def _check_wanted(walk: Walk, before: DaemonState) -> None:
    books, state = walk.books, walk.state
    if not books.wants_run:
        settled = (DaemonStatus.CREATED, DaemonStatus.STOPPING, DaemonStatus.STOPPED, DaemonStatus.FAILED)
        demand(state.status in settled, "stop is obeyed", f"nobody wants it, and it is {state.status.value}")
        demand(not state.completed, "completed means it", "completed after a stop")
        return
    if state.status is DaemonStatus.STOPPED and not state.waiting:
        demand(state.completed and books.last_end_good, "not stuck", "wanted and stopped, but it has not completed")
    if state.status is DaemonStatus.FAILED:
        demand(state.failure is not None, "failure has a reason", "none:", state)
    demand(state.status is not DaemonStatus.CREATED or state.waiting, "not stuck", "wanted, not waiting, never started")
    demand(state.waiting == books.blocked, "not stuck", f"waiting {state.waiting}, blocked {books.blocked}")
    if state.failure is FailureReason.MAX_RETRIES and before.failure is None:
        limit = state.policy.restart.backoff.max_retries
        demand(books.row == limit, "max retries", f"gave up after {books.row} restarts, limit {limit}")


def check_after_settling(walk: Walk) -> None:
    """At rest: gone if nobody wants it; up, completed, given up or waiting if somebody does."""
    state, books = walk.state, walk.books
    if not books.wants_run:
        demand(state.status in _NO_INSTANCE and not walk.alive(), "nothing runs after a stop", f"{state.status.value}")
    demand(not walk.inbox and not walk.armed, "comes to rest", f"still busy: {state}")
    if not books.wants_run:
        return
    held = any(each.held for each in walk.alive())
    fine = (DaemonStatus.RUNNING, DaemonStatus.STOPPED, DaemonStatus.FAILED)
    demand(state.status in fine or held or state.waiting, "comes up", f"wanted, undisturbed, and {state.status.value}")
