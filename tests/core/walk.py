"""Random lives: the real `step` against a simulated platform and a careless user, checked after each step.

The platform answers spawns late or not at well, its processes end when they like, ignore SIGTERM, outlive SIGKILL for a
while and report readiness before the spawn is answered; timers fire late and superseded ones fire too; events of older
incarnations come back. `Walk` makes the choices and keeps its own books about what was asked and what exists;
`invariants.py` compares these with what the core decided.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace

from duende.core import lifecycle
from duende.core.effects import ArmTimer, Effect, KillTree, RunStopCommand, SendSignal, Spawn
from duende.core.events import (
    BecameReady,
    BecameUnhealthy,
    BecameUnready,
    Continued,
    DependenciesMet,
    Event,
    Exited,
    KillRequested,
    Paused,
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
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.schedule import Moment, Overlap
from duende.model.signals import Signal
from duende.model.status import DaemonStatus
from duende.model.stop import StopStep

from .invariants import Books, Violation, check_after_settling, check_step

STEPS = 80  # chaotic steps in a walk, before it settles
SETTLE_LIMIT = 400  # steps in which an undisturbed daemon must come to rest


@dataclass(slots=True)
class Incarnation:
    """One process tree as the world sees it; the core hears of it only through the events it queues."""

    number: int
    answered: bool = False  # Spawned or SpawnFailed is on its way or told
    exists: bool = False
    held: bool = False  # SIGSTOP
    obeys: bool = True  # ends at the stop signal
    sturdy: bool = False  # in uninterruptible sleep: SIGKILL works later
    awaits_ready: bool = False
    told_to_stop: bool = False
    doomed: bool = False  # SIGKILL was sent


class Walk:
    """One random life. `run` raises Violation with the last steps when an invariant breaks."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.now_s = 100.0
        self.state = DaemonState(policy=random_policy(self.chance))
        self.books = Books()
        self.world: dict[int, Incarnation] = {}
        self.inbox: deque[Event] = deque()
        self.armed: list[ArmTimer] = []
        self.trace: deque[tuple[float, DaemonState, Event, DaemonState, tuple[Effect, ...]]] = deque(maxlen=25)
        self.slots = 0  # of its schedule, so far
        self.calm = False  # no more mischief: used while settling

    def run(self) -> None:
        """Live a random life, then let it settle and check that it came to rest where it should."""
        try:
            for _ in range(STEPS):
                self.chance.choice(_ACTIONS)(self)
            self.settle()
        except AssertionError as error:
            if not isinstance(error, Violation) and "not in the table" not in str(error):
                raise
            name = error.name if isinstance(error, Violation) else "table"
            told = "\n  ".join(
                f"{now_s:7.2f} {before.status.value:9} {event} -> {after.status.value} {list(effects)}"
                for now_s, before, event, after, effects in self.trace
            )
            raise Violation(name, f"{error}\nseed {self.seed}, last steps:\n  {told}") from error

    def settle(self) -> None:
        """No more chaos: say stop, or say nothing, and run the world until nothing is left to happen."""
        self.calm = True
        if self.chance.random() < 0.5:
            self.tell(StopRequested())
        elif self.books.blocked:
            self.tell(DependenciesMet())
        for _ in range(SETTLE_LIMIT):
            if self.inbox:
                self.deliver()
            elif any(each for each in self.world.values() if not each.answered):
                self.answer_spawn()
            elif any(each for each in self.world.values() if each.doomed and each.exists):
                self.end_doomed()
            elif self.report_ready():
                continue
            elif self.armed:
                self.let_time_pass()
            else:
                break
        check_after_settling(self)

    # --- telling the core, and doing what it says

    def tell(self, event: Event) -> None:
        """One step of the core, its effects carried out, everything checked."""
        before = self.state
        self.books.note_request(event, before.status)
        self.books.note_slot(event, before)
        after, effects = lifecycle.step(before, event, now_s=self.now_s, uniform=self.chance.random())
        self.trace.append((self.now_s, before, event, after, effects))
        self.state = after
        check_step(self, before, event, effects)
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        """Carry out one effect in the simulated world."""
        match effect:
            case Spawn(number):
                self.world[number] = Incarnation(number)
            case SendSignal(number, signal, _):
                self.receive(self.world[number], signal)
            case RunStopCommand(number, rung):
                if self.chance.random() < 0.4:
                    self.inbox.append(StopStepFailed(number, rung, "exited with 1"))
                elif self.world[number].exists:
                    self.receive(self.world[number], int(Signal.TERM))
            case KillTree(number):
                each = self.world[number]
                each.doomed = True
                each.sturdy = not self.calm and self.chance.random() < 0.3
                if not each.sturdy:
                    self.end(each, ExitInfo.from_signal(int(Signal.KILL)))
            case ArmTimer():
                self.armed.append(effect)

    def receive(self, each: Incarnation, signal: int) -> None:
        """A process gets a signal; one that is held sees all but SIGCONT only afterwards."""
        if signal == Signal.USR1:
            return
        if signal == Signal.CONT:
            each.held = False
        else:
            each.told_to_stop = True
        if each.told_to_stop and each.obeys and not each.held:
            self.end(each, self.chance.choice((ExitInfo.from_code(0), ExitInfo.from_signal(15), ExitInfo.from_code(1))))

    def end(self, each: Incarnation, exit_info: ExitInfo) -> None:
        """It ends; the news travels."""
        if each.exists:
            each.exists = False
            self.inbox.append(Exited(each.number, exit_info))

    # --- what may happen

    def ask(self) -> None:
        """Somebody asks for something."""
        blocked = self.chance.random() < 0.4
        requests = (
            StartRequested(), StartRequested(), StartRequested(blocked=blocked), StopRequested(), StopRequested(True),
            RestartRequested(), KillRequested(),
        )  # fmt: skip
        self.tell(self.chance.choice(requests))

    def start_if_down(self) -> None:
        """Somebody who looks first; without one most walks would end early."""
        if not self.books.wants_run:
            self.tell(StartRequested(blocked=self.chance.random() < 0.2))

    def start_blocked_in_backoff(self) -> None:
        """Somebody starts what waits for its next try anyway, and now it has to wait for others."""
        if self.state.status is DaemonStatus.BACKOFF:
            self.tell(StartRequested(blocked=True))

    def meet_dependencies(self) -> None:
        """What it comes after is there."""
        self.tell(DependenciesMet())

    def change_policy(self) -> None:
        """New rules; what the books count against stays, so that a row has one limit, and a stop one ladder."""
        fresh, old = random_policy(self.chance), self.state.policy
        self.tell(PolicyChanged(replace(fresh, restart=old.restart, stop=old.stop, overlap=old.overlap)))

    def slot_comes(self) -> None:
        """A slot of its schedule, or many that were missed; now and then one that was told before, or is overtaken."""
        self.slots += 1
        if self.state.status is DaemonStatus.CREATED and self.state.policy.overlap is not None:
            self.tell(ScheduleResumed())
        slot = Moment(float(self.slots), float(self.slots))
        after = self.state.slot if self.chance.random() < 0.8 else Moment(float(self.chance.randrange(self.slots)), 1.0)
        if self.chance.random() < 0.2:
            self.tell(SlotPassed(after, slot, self.chance.choice(("", "missed"))))
        else:
            self.tell(RunDue(after, slot, str(self.slots), blocked=self.chance.random() < 0.2))

    def answer_spawn(self) -> None:
        """The platform answers a spawn: executed, or not possible."""
        each = next((each for each in self.world.values() if not each.answered), None)
        if each is None:
            return
        each.answered = True
        if self.chance.random() < (0.0 if self.calm else 0.2):
            self.inbox.append(SpawnFailed(each.number, self.chance.choice(_SPAWN_FAILURES)))
            return
        each.exists = True
        each.awaits_ready = self.chance.random() < 0.6
        each.obeys = self.chance.random() < 0.7
        news: list[Event] = [Spawned(each.number, each.awaits_ready)]
        if each.awaits_ready and self.chance.random() < 0.3:
            news.append(BecameReady(each.number))
            each.awaits_ready = False
        if self.chance.random() < 0.2 and not self.calm:
            each.exists = False
            news.append(Exited(each.number, self.chance.choice(_EXITS)))
        self.chance.shuffle(news)
        self.inbox.extend(news)

    def deliver(self) -> None:
        """The oldest news arrives."""
        if self.inbox:
            self.tell(self.inbox.popleft())

    def deliver_all(self) -> None:
        """Whatever is on its way arrives."""
        while self.inbox:
            self.deliver()

    def repeat_old_news(self) -> None:
        """Something about an older incarnation, or a second answer about this one."""
        number = self.chance.randrange(0, self.state.instance + 1)
        news: list[Event] = [Spawned(number, self.chance.random() < 0.5), SpawnFailed(number, _SPAWN_FAILURES[0])]
        if number < self.state.instance:
            news += [StopStepFailed(number, 0, "late")]
            news += [Exited(number, ExitInfo.from_code(0)), BecameReady(number), Paused(number), Continued(number)]
        elif not self.state.executed:
            return
        self.tell(self.chance.choice(news))

    def crash(self) -> None:
        """What exists ends by itself."""
        for each in self.alive():
            self.end(each, self.chance.choice(_EXITS))

    def end_doomed(self) -> None:
        """SIGKILL works at last."""
        for each in self.alive():
            if each.doomed:
                self.end(each, ExitInfo.from_signal(int(Signal.KILL)))

    def report_ready(self) -> bool:
        """Its readiness is reported, unless it is held."""
        for each in self.alive():
            if each.awaits_ready and not each.held:
                each.awaits_ready = False
                self.inbox.append(BecameReady(each.number))
                return True
        return False

    def hold(self) -> None:
        """Somebody sends SIGSTOP or SIGCONT."""
        for each in self.alive():
            each.held = not each.held
            self.inbox.append(Paused(each.number) if each.held else Continued(each.number))

    def fall_ill(self) -> None:
        """Its health check fails."""
        for each in self.alive():
            self.inbox.append(BecameUnhealthy(each.number, "no answer", self.chance.choice((None, int(Signal.USR1)))))

    def change_readiness(self) -> None:
        """Its readiness is lost, or had (again); or it has said so, and its probes have not."""
        for each in self.alive():
            if not each.awaits_ready:
                self.inbox.append(self.chance.choice((BecameUnready(each.number, "busy"), BecameReady(each.number))))
            else:
                self.inbox.append(SaidReady(each.number))

    def ask_for_time(self) -> None:
        """It wants more time for its start or stop, also such that it has already."""
        for each in self.alive():
            self.inbox.append(TimeAskedFor(each.number, self.now_s + self.chance.choice((0.1, 3.0, 10.0))))

    def let_time_pass(self) -> None:
        """Until the next deadline or some way on; what is due fires, late and in any order."""
        next_s = min((timer.deadline_s for timer in self.armed), default=self.now_s)
        late_s = self.chance.choice((0.0, 0.0, 0.01, 1.5))
        self.now_s = (
            max(self.now_s, self.chance.choice((self.now_s + 0.5, next_s)) if not self.calm else next_s) + late_s
        )
        due = [timer for timer in self.armed if timer.deadline_s <= self.now_s]
        self.chance.shuffle(due)
        for timer in due:
            self.armed.remove(timer)
            self.tell(TimerFired(timer.token))

    def let_long_time_pass(self) -> None:
        """Long enough for a run to be stable."""
        self.let_time_pass()
        self.now_s += 3.0

    def alive(self) -> list[Incarnation]:
        """What exists on the platform; must never be more than one."""
        return [each for each in self.world.values() if each.exists]


def random_policy(chance: random.Random) -> LifecyclePolicy:
    """Rules with small figures, so that every edge is met."""
    backoff = BackoffConfig(
        initial_delay=chance.choice((0.0, 0.5)),
        max_delay=2.0,
        jitter=chance.choice((0.0, 0.5)),
        max_retries=chance.choice((None, None, 0, 1, 3)),
    )
    restart = RestartConfig(
        policy=chance.choice((*RestartPolicy, RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE)),
        backoff=backoff,
        reset_after=3.0,
        crash_limit=chance.choice((0, 0, 1, 2, 3)),
        crash_window=4.0,
        retry_in=chance.choice((0.0, 0.0, 6.0)),
        success_exit_codes=chance.choice((frozenset({0}), frozenset({0, 3}))),
        permanent_exit_codes=chance.choice((frozenset({125}), frozenset({125, 7}))),
    )
    return LifecyclePolicy(
        restart=restart,
        start_timeout_s=chance.choice((0.0, 1.0, 4.0)),
        shutdown_timeout_s=chance.choice((0.0, 2.0)),
        stop=chance.choice(_LADDERS),
        stop_tree=chance.random() < 0.5,
        kill_leader_only=chance.random() < 0.5,
        overlap=chance.choice((None, None, None, *Overlap)),
    )


_LADDERS = (
    (),
    (),
    (StopStep(Signal.QUIT, wait_s=1.0), StopStep(Signal.INT, wait_s=0.5), StopStep(Signal.TERM, wait_s=0.5)),
    (StopStep(command=("ask",), wait_s=1.0), StopStep(Signal.TERM, wait_s=0.0), StopStep(Signal.KILL, wait_s=0.0)),
    (StopStep(Signal.KILL, wait_s=0.0),),
)
_EXITS = (
    *(ExitInfo.from_code(code) for code in (0, 1, 1, 1, 3, 7, 125)),
    ExitInfo.from_signal(11, core_dumped=True),
    ExitInfo.out_of_memory(limit_bytes=1 << 20),
    ExitInfo.unknown("nobody saw it"),
)
_SPAWN_FAILURES = (
    ExitInfo(ExitReason.ERROR, "no memory", errno=12, transient=True),
    ExitInfo(ExitReason.ERROR, "no memory", errno=12, transient=True),
    ExitInfo(ExitReason.ERROR, "no such file", errno=2),
    ExitInfo(ExitReason.POLICY_VIOLATION, "no such user"),
)
_ACTIONS = (
    *[Walk.answer_spawn, Walk.deliver, Walk.let_time_pass] * 4,
    *[Walk.deliver_all, Walk.start_if_down, Walk.crash, Walk.report_ready] * 2,
    Walk.ask, Walk.meet_dependencies, Walk.change_policy, Walk.repeat_old_news, Walk.end_doomed, Walk.hold,
    *[Walk.slot_comes] * 2,
    Walk.start_blocked_in_backoff, Walk.meet_dependencies, Walk.fall_ill, Walk.let_long_time_pass,
    Walk.change_readiness, Walk.ask_for_time,
)  # fmt: skip
