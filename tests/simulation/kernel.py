"""A model of the kernel: processes with numbers that are used again, start times, signals, trees, zombies, boots.

What a process does is decided when it is made, by `Behaviour`; what happens to it is said to whoever is its parent
by `Kernel.on_end` and `on_stop`. A number is free again when its process has been reaped.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from duende.model.exits import ExitInfo

__all__ = ["Behaviour", "Kernel", "Parent", "Process"]

PIDS = 48  # few, so that numbers come again soon
_CONT, _STOP, _KILL = 18, 19, 9
_HARMLESS = frozenset({1, 10, 12})  # our daemons have handlers for these


class Parent(enum.Enum):
    """Who may learn how a process ended."""

    KEEPER = "keeper"
    MANAGER = "manager"
    INIT = "init"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one incarnation does. Times are seconds from its execution; None is never."""

    exec_errno: int = 0  # it can't be executed
    exec_s: float = 0.002
    ready_s: float | None = 0.0
    lives_s: float | None = None
    exit_code: int = 0
    exit_signal: int = 0  # instead of the code
    obeys_s: float | None = 0.01  # from the stop signal to the end
    obeys_with: int | None = None  # exit code after the stop signal; None: dies of the signal
    children: int = 0  # of the same tree; they end only when they are killed
    dies_s: float = 0.0005  # from SIGKILL to the end; long in uninterruptible sleep
    healthy: bool = True


@dataclass(slots=True, eq=False)
class Process:
    """One process; a leader is what the keeper forked, its children belong to the same instance."""

    pid: int
    start_ticks: int
    name: str
    instance: int
    marker: str
    behaviour: Behaviour
    parent: Parent
    leader: Process | None = None
    executed: bool = False
    stopped: bool = False
    ended: ExitInfo | None = None
    reaped: bool = False
    pending: int = 0  # a stop signal that came while it was held
    dying: bool = False
    executed_s: float = 0.0
    known: bool = False  # some manager has heard of it
    ready_heard: bool = False
    boot: int = 1
    rebooted: bool = False  # the machine went down under it
    children: list[Process] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.ended is None

    def __str__(self) -> str:
        return f"{self.name}#{self.instance}/{self.pid}"


class Kernel:
    """`after(seconds, call)` comes from the world. `refuses_fork` stands for a full process table."""

    def __init__(self, rng: random.Random, now_s: Callable[[], float],
                 after: Callable[[float, Callable[[], None]], None], log: Callable[[str], None]) -> None:  # fmt: skip
        self._rng = rng
        self._now_s = now_s
        self._after = after
        self._log = log
        self.boot = 1
        self.calm = False  # nobody ends by itself any more
        self.by_pid: dict[int, Process] = {}
        self.everybody: list[Process] = []  # that ever was, for the checks
        self._next_pid = 2
        self.on_executed: Callable[[Process], None] = lambda process: None
        self.on_end: Callable[[Process], None] = lambda process: None
        self.on_stop: Callable[[Process, bool], None] = lambda process, stopped: None

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def living(self, name: str = "") -> list[Process]:
        """Everybody alive, of one daemon or of all."""
        return [one for one in self.by_pid.values() if one.alive and (not name or one.name == name)]

    def find(self, pid: int, start_ticks: int, boot_id: str) -> Process | None:
        """That very process, if it has not been reaped: what a pidfd and its start time say."""
        process = self.by_pid.get(pid)
        same = process is not None and process.start_ticks == start_ticks and boot_id == self.boot_id
        return process if same else None

    def fork(self, name: str, instance: int, marker: str, behaviour: Behaviour, parent: Parent) -> Process | None:
        """A new process that executes nothing yet; None when every number is taken."""
        for _ in range(PIDS):
            pid = self._next_pid
            self._next_pid = 2 + (self._next_pid - 1) % PIDS
            if pid not in self.by_pid:
                ticks = int(self._now_s() * 100)
                process = Process(pid, ticks, name, instance, marker, behaviour, parent, boot=self.boot)
                self.by_pid[pid] = process
                self.everybody.append(process)
                return process
        return None

    def execute(self, process: Process) -> None:
        """execve(2) succeeded: from now on it does what it does."""
        process.executed, process.executed_s = True, self._now_s()
        self._log(f"executed {process}")
        does = process.behaviour
        for _ in range(does.children):
            like = Behaviour(dies_s=does.dies_s)
            child = self.fork(process.name, process.instance, process.marker, like, Parent.INIT)
            if child is not None:
                child.leader, child.executed = process, True
                process.children.append(child)
        self.on_executed(process)
        if does.lives_s is not None:
            ends = ExitInfo.from_signal(does.exit_signal) if does.exit_signal else ExitInfo.from_code(does.exit_code)
            self._after(does.lives_s, lambda: None if self.calm else self.end(process, ends))

    def end(self, process: Process, how: ExitInfo) -> None:
        """It becomes a zombie, and whoever is its parent is told."""
        if not process.alive or (process.stopped and how.signal != _KILL):
            return
        process.ended = how
        self._log(f"ended {process}: {how.message}")
        if process.parent is Parent.INIT:
            self.reap(process)
        self.on_end(process)

    def reap(self, process: Process) -> None:
        """wait(2): its number is free."""
        if not process.reaped:
            process.reaped = True
            del self.by_pid[process.pid]

    def signal(self, process: Process, number: int) -> None:
        """kill(2) on one process."""
        if not process.alive:
            return
        self._log(f"signal {number} to {process}")
        match number:
            case 9:
                self._kill(process)
            case 19:
                self._hold(process, True)
            case 18:
                self._hold(process, False)
            case _ if number in _HARMLESS or not process.executed:
                return
            case _ if process.stopped:
                process.pending = number
            case _:
                self._obey(process, number)

    def tree(self, leader: Process) -> list[Process]:
        """Who is alive of an instance: its cgroup."""
        return [one for one in (leader, *leader.children) if one.alive]

    def marked(self, marker: str) -> list[Process]:
        """Everybody alive that bears this marker."""
        return [one for one in self.by_pid.values() if one.alive and one.marker == marker]

    def orphan(self, parent: Parent, heir: Parent) -> None:
        """A parent has died: its children fall to the next subreaper. init reaps at once."""
        for process in list(self.by_pid.values()):
            if process.parent is parent:
                process.parent = heir
                if not process.alive and heir is Parent.INIT:
                    self.reap(process)

    def reboot(self) -> None:
        """Everybody is gone, and nobody is told."""
        for process in self.living():
            process.ended = ExitInfo.unknown("the machine went down")
        for process in self.by_pid.values():
            process.reaped = process.rebooted = True
        self.by_pid.clear()
        self.boot += 1

    def _kill(self, process: Process) -> None:
        if not process.dying:
            process.dying = True
            delay_s = min(process.behaviour.dies_s, 0.001) if self.calm else process.behaviour.dies_s
            self._after(delay_s, lambda: self.end(process, ExitInfo.from_signal(_KILL)))

    def _hold(self, process: Process, stopped: bool) -> None:
        if process.stopped is stopped:
            return
        process.stopped = stopped
        if process.leader is None:
            self.on_stop(process, stopped)
        if not stopped and process.pending:
            number, process.pending = process.pending, 0
            self._obey(process, number)

    def _obey(self, process: Process, number: int) -> None:
        does = process.behaviour
        delay_s = does.obeys_s if process.leader is None else None
        if self.calm and process.leader is None:
            delay_s = 0.01
        if delay_s is None:
            return
        how = ExitInfo.from_signal(number) if does.obeys_with is None else ExitInfo.from_code(does.obeys_with)
        self._after(delay_s, lambda: self.end(process, how))
