"""The world of one run: time, chance, a kernel, a keeper, a disk, and the lives of a manager, one after the other.

A life is the real DaemonManager on an event loop of its own. It ends when it is told to, or when it is killed: then
`Killed` goes through the loop from wherever the manager was, its database connection is dropped, and nothing that its
coroutines still do reaches anybody. Everything is decided by the seed, so the same plan gives the same trace.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duende.config.daemon import StackConfig
from duende.config.paths import StackPaths
from duende.errors import DuendeError
from duende.runtime.manager import DaemonManager

from .adapter import SimAdapter
from .keeper import Line, SimKeeper
from .kernel import Behaviour, Kernel, Parent, Process
from .loop import SimLoop
from .plan import Step

__all__ = ["Killed", "Life", "Operation", "Violation", "World"]

_TURNS_MAX = 2_000_000  # of all loops together; a run that needs more spins


class Killed(KeyboardInterrupt):
    """The manager is gone. A KeyboardInterrupt, because asyncio lets those through from everywhere."""


class Violation(AssertionError):
    """An invariant is broken; `name` says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


@dataclass(slots=True, eq=False)
class Operation:
    """What a user asked of one life, and how that ended."""

    step: Step
    names: tuple[str, ...]
    asked_s: float
    task: asyncio.Task[Any]
    ended_s: float | None = None

    @property
    def verb(self) -> str:
        return self.step.verb

    @property
    def timeout_s(self) -> float | None:
        """How long the user wants to wait; None is for ever."""
        return (self.step.number or None) if self.verb in ("start", "stop", "restart", "kill") else None

    @property
    def named(self) -> bool:
        """Not simply all."""
        return bool(self.step.names)


class WorldClock:
    """The three clocks. Boot time goes on over suspends and begins anew with a boot."""

    def __init__(self, world: World) -> None:
        self._world = world

    def boottime_s(self) -> float:
        return self._world.now_s + self._world.slept_s - self._world.booted_s

    def monotonic_s(self) -> float:
        return self._world.now_s

    def wall_s(self) -> float:
        return 1_790_000_000.0 + self._world.now_s + self._world.slept_s + self._world.set_by_s


class Life:
    """One manager process."""

    def __init__(self, world: World, number: int, resume: bool) -> None:
        self.world = world
        self.number = number
        self.alive = True
        self.listening = self.was_up = False  # its API
        self.resumes = resume
        self.buried = False
        self.opened_s = 0.0
        self.connections: list[Any] = []
        self.operations: list[Operation] = []
        self.adapter = SimAdapter(world, self)
        self.loop = SimLoop(lambda: world.now_s, self._pass_time)
        self.loop.set_exception_handler(self._complain)
        self.manager = DaemonManager(world.stack, paths=world.paths, clock=world.clock, resume=resume)

    def run(self) -> bool:
        """Live. True when it ended by itself, in order."""
        try:
            self.loop.run_until_complete(self._main())
        except Killed:
            return False
        except DuendeError as error:
            self.world.log(f"manager {self.number} could not open: {error}")
            return False
        else:
            return True
        finally:
            self._bury()

    def ask(self, step: Step, names: tuple[str, ...], work: Coroutine[Any, Any, Any]) -> None:
        """A request on the socket."""
        task = self.loop.create_task(work)
        operation = Operation(step, names, self.world.now_s, task)
        self.operations.append(operation)
        task.add_done_callback(lambda _: self._answered(operation))

    def _answered(self, operation: Operation) -> None:
        if not self.alive or operation.task.cancelled():
            return
        operation.ended_s = self.world.now_s
        self.world.on_answered(operation)

    async def _main(self) -> None:
        await self.manager.open()
        self.listening = self.was_up = True
        self.opened_s = self.world.now_s
        self.world.on_open(self)
        await self.manager.finished.wait()
        self.listening = False
        await self.manager.close()

    def _pass_time(self, timeout_s: float | None) -> None:
        if self.buried:
            return
        if not self.alive:
            raise Killed
        self.world.pass_time(timeout_s)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.alive and not self.buried:
            self.world.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _bury(self) -> None:
        """What the kernel does for a process that is gone: descriptors, locks, connections."""
        self.alive = self.listening = False
        self.buried = True
        for connection in self.connections:
            connection.close()
        self.world.on_death(self)
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()  # what was due in the turn that was cut short, such as the end of `_main`
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for operation in self.operations:
            if operation.task.done() and not operation.task.cancelled():
                operation.task.exception()
        self.manager._lock.release()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


class World:
    """Everything outside the manager. The hooks `on_…` are where the checks listen."""

    def __init__(self, seed: int, stack: StackConfig, folder: Path) -> None:
        self.seed = seed
        self.stack = stack
        self.paths = StackPaths(stack.name, str(folder / "r"), str(folder / "s"))
        self.rng = random.Random(f"{seed}/chance")
        self.now_s = 1000.0
        self.booted_s = 0.0
        self.slept_s = 0.0
        self.set_by_s = 0.0
        self.clock = WorldClock(self)
        self.trace: list[str] = []
        self.complaints: list[str] = []
        self.kernel = Kernel(self.rng, lambda: self.now_s, self.after, self.log)
        self.kernel.on_executed = lambda process: self.on_executed(process)
        self.kernel.on_end = self._on_end
        self.kernel.on_stop = lambda process, stopped: self.keeper.on_stop(process, stopped) if self.keeper else None
        self.keeper: SimKeeper | None = None
        self.life: Life | None = None
        self.disk_full = False
        self.no_forks = False
        self.boundaries = 0
        self.kill_at: int | None = None  # the boundary at which the manager dies
        self.kill_keeper_too = False
        self.over = False
        self.behaviour_for: Callable[[str, int], Behaviour] = lambda name, instance: Behaviour()
        self.on_spawn_asked: Callable[[Any], None] = lambda key: None
        self.on_executed: Callable[[Process], None] = lambda process: None
        self.on_stray: Callable[[Any], None] = lambda key: None
        self.on_kill: Callable[[Any], None] = lambda key: None
        self.on_ready: Callable[[Process], None] = lambda process: None
        self.on_committed: Callable[[dict[str, Any]], None] = lambda written: None
        self.on_answered: Callable[[Operation], None] = lambda operation: None
        self.on_open: Callable[[Life], None] = lambda life: None
        self.on_death: Callable[[Life], None] = lambda life: None
        self.when_quiet: list[Callable[[], None]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._n = 0
        self._turns = 0
        self.lives = 0
        self._next_life: bool | None = None  # its `resume`, when one is due
        self._violation: Violation | None = None

    # --- time

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Let something happen later."""
        self._n += 1
        heapq.heappush(self._heap, (self.now_s + max(seconds, 0.0), self._n, call))

    def pass_time(self, timeout_s: float | None) -> None:
        """What happens while the manager computes or waits. Killed comes from here, too."""
        self._turns += 1
        if self._turns > _TURNS_MAX:
            raise Violation("comes to rest", f"{_TURNS_MAX} turns of the event loop")
        if timeout_s == 0:
            self._advance(self.now_s + self.rng.uniform(0.00001, 0.0003))
        else:
            next_s = self._heap[0][0]
            self._advance(next_s if timeout_s is None else min(next_s, self.now_s + timeout_s))
        if self.life is not None and not self.life.alive:
            raise Killed

    def run(self) -> None:
        """Until `over`. A Violation that a check has found in a callback is raised here."""
        while not self.over:
            if self._next_life is not None and self.life is None:
                resume, self._next_life = self._next_life, None
                self.lives += 1
                self.log(f"manager {self.lives} starts{', in the place of one that died' if resume else ''}")
                life = self.life = Life(self, self.lives, resume)
                ended = life.run()
                self.life = None
                self.log(f"manager {self.lives} {'has ended' if ended else 'is dead'}")
                self.kernel.orphan(Parent.MANAGER, Parent.INIT)
                self.on_life_over(life, ended)
            else:
                self._advance(self._heap[0][0])
            if self._violation is not None:
                raise self._violation

    def _advance(self, until_s: float) -> None:
        self.now_s = max(self.now_s, until_s)
        while self._heap and self._heap[0][0] <= self.now_s and not self.over:
            heapq.heappop(self._heap)[2]()
        if self.over and self.life is not None:
            self.life.alive = False

    # --- what others ask for

    def log(self, text: str) -> None:
        """One line of the history."""
        self.trace.append(f"{self.now_s:12.6f} {text}")

    def digest(self) -> str:
        """Of the whole history: two runs are the same when this is."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def fail(self, name: str, text: str) -> None:
        """Remember the first broken invariant, and stop: from a callback nothing must be raised into the manager."""
        if self._violation is None:
            self._violation = Violation(name, text)
            self.log(f"VIOLATION {name}: {text}")
        self.over = True

    def boundary(self, what: str) -> None:
        """Something is about to be noticed by others, or just was: here the manager may die."""
        self.boundaries += 1
        self.log(f"[{self.boundaries}] {what}")
        if self.kill_at is not None and self.boundaries >= self.kill_at:
            self.kill_at = None
            self.kill_manager(keeper_too=self.kill_keeper_too)
            raise Killed

    def line(self) -> Line:
        """A new connection to the keeper."""
        return Line(self.rng, lambda: self.now_s, self.after)

    @property
    def expects_manager(self) -> bool:
        """A manager is there, or is being started."""
        return self.life is not None or self._next_life is not None

    def start_keeper(self) -> None:
        self.log("a keeper starts")
        self.keeper = SimKeeper(self.kernel, self.rng, self.after, self.log, lambda: self.no_forks)

    def keeper_ended(self) -> None:
        """By itself, in order: it held nothing."""
        assert self.keeper is not None
        self.log("the keeper ends")
        self.keeper.alive = False
        self.keeper = None

    def behaviour_of(self, name: str, instance: int) -> Behaviour:
        return self.behaviour_for(name, instance)

    # --- accidents

    def start_manager(self, *, resume: bool) -> None:
        """Somebody starts one: a user's `up`, or the restarter."""
        if self.life is None:
            self._next_life = resume

    def kill_manager(self, *, keeper_too: bool = False) -> None:
        """SIGKILL; it does not come back from where it is."""
        if self.life is not None:
            self.log(f"manager {self.life.number} is killed")
            self.life.alive = False
            if self.life.adapter._line is not None:
                self.life.adapter._line.open["manager"] = False
            self.kernel.orphan(Parent.MANAGER, Parent.INIT)
        if keeper_too:
            self.kill_keeper()

    def kill_keeper(self) -> None:
        if self.keeper is not None and self.keeper.alive:
            has_manager = self.life is not None and self.life.alive
            self.keeper.die(Parent.MANAGER if has_manager else Parent.INIT)

    def reboot(self) -> None:
        """Everything that runs is gone; the disk stays."""
        self.log("the machine boots")
        self.kill_manager()
        if self.keeper is not None:
            self.keeper.alive = False
            if self.keeper._line is not None:
                self.keeper._line.open["keeper"] = self.keeper._line.open["manager"] = False
            self.keeper = None
        self.kernel.reboot()
        self.booted_s, self.slept_s = self.now_s - 1.0, 0.0

    def on_life_over(self, life: Life, ended: bool) -> None:
        """Set by the player: whether somebody brings the manager back."""

    def _on_end(self, process: Process) -> None:
        if self.keeper is not None and self.keeper.alive and process.parent is Parent.KEEPER:
            self.keeper.on_end(process)
        elif process.leader is None and self.life is not None and self.life.alive:
            life = self.life
            self.after(0.0001, lambda: life.adapter.on_orphan_end(process) if life.alive else None)
