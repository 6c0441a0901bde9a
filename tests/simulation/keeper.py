"""A model of the keeper and of its connections: requests and events arrive late, in order, and die with either end.

It keeps the promises of src/duende/keeper/__main__.py: a spawn asked for twice is one, what is not executed yet is not
listed by `hello`, an exit is told once to each manager until it is released, a newer connection replaces the older.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from duende.model.exits import ExitInfo

from .kernel import Behaviour, Kernel, Parent, Process

__all__ = ["Held", "Line", "SimKeeper"]


class Receiver(Protocol):
    """The manager's end."""

    def on_answer(self, number: int, answer: Any) -> None: ...
    def on_event(self, kind: str, key: str, data: Any) -> None: ...
    def on_eof(self) -> None: ...


class Line:
    """One connection. What was sent arrives in order, after a while; `broken` ends are not told anything."""

    def __init__(self, rng: random.Random, now_s: Callable[[], float],
                 after: Callable[[float, Callable[[], None]], None]) -> None:  # fmt: skip
        self._rng = rng
        self._now_s = now_s
        self._after = after
        self._arrives_s = {"keeper": 0.0, "manager": 0.0}
        self.open = {"keeper": True, "manager": True}

    def send(self, to: str, deliver: Callable[[], None]) -> None:
        """`deliver` is called when it arrives, if that end still lives."""
        slow = self._rng.random() < 0.1
        at_s = self._now_s() + (self._rng.uniform(0.001, 0.05) if slow else self._rng.uniform(0.00002, 0.0005))
        at_s = self._arrives_s[to] = max(at_s, self._arrives_s[to])
        self._after(at_s - self._now_s(), lambda: deliver() if self.open[to] else None)


@dataclass(slots=True, eq=False)
class Held:
    """What the keeper knows of one instance."""

    key: str
    process: Process
    note: dict[str, Any]
    executed: bool = False
    exit: ExitInfo | None = None
    requests: list[tuple[int, Line]] = field(default_factory=list)


class SimKeeper:
    """One keeper process."""

    def __init__(self, kernel: Kernel, rng: random.Random, after: Callable[[float, Callable[[], None]], None],
                 log: Callable[[str], None], refuses_fork: Callable[[], bool]) -> None:  # fmt: skip
        self.kernel = kernel
        self.alive = True
        self.instances: dict[str, Held] = {}
        self._rng = rng
        self._after = after
        self._log = log
        self._refuses_fork = refuses_fork
        self._line: Line | None = None
        self._receiver: Receiver | None = None

    def connect(self, line: Line, receiver: Receiver) -> None:
        """Requests that the former manager sent last are read before it is dropped, or not any more."""
        if self._line is not None and self._rng.random() < 0.5:
            self._line.open["keeper"] = False
        self._line, self._receiver = line, receiver

    def die(self, heir: Parent) -> None:
        """SIGKILL: what it sent already still arrives, then the end of the connection."""
        self.alive = False
        self._log("the keeper dies")
        if self._line is not None and self._receiver is not None:
            self._line.open["keeper"] = False
            self._line.send("manager", self._receiver.on_eof)
        self.kernel.orphan(Parent.KEEPER, heir)

    # --- requests, as they arrive

    def hello(self, line: Line, number: int) -> None:
        """What it holds; what has not executed yet is told of when it has."""
        known = [held for held in self.instances.values() if held.executed]
        self._answer(line, number, [(held, held.exit) for held in known])

    def spawn(self, line: Line, number: int, key: str, note: dict[str, Any], behaviour: Behaviour) -> None:
        """Idempotent by `key`."""
        held = self.instances.get(key)
        if held is not None:
            if held.executed:
                self._answer(line, number, held)
            else:
                held.requests.append((number, line))
            return
        name, _, instance = key.rpartition("#")
        process = None
        if not self._refuses_fork():
            process = self.kernel.fork(name, int(instance), note["marker"], behaviour, Parent.KEEPER)
        if process is None:
            self._answer(line, number, ("fork", errno.EAGAIN))
            return
        held = self.instances[key] = Held(key, process, note, requests=[(number, line)])
        self._log(f"forked {process}")
        self._after(behaviour.exec_s, lambda: self._executes(held))

    def release(self, key: str) -> None:
        """Reap it."""
        held = self.instances.pop(key, None)
        if held is not None and not held.process.alive:
            self.kernel.reap(held.process)

    # --- what happens to its children

    def on_end(self, process: Process) -> None:
        held = self._held(process)
        if held is not None and held.executed:
            held.exit = process.ended
            self._tell("exit", held.key, process.ended)

    def on_stop(self, process: Process, stopped: bool) -> None:
        held = self._held(process)
        if held is not None:
            self._tell("stopped" if stopped else "continued", held.key, None)

    def _executes(self, held: Held) -> None:
        """The child goes on to execve(2) also when the keeper has died meanwhile."""
        process = held.process
        if not process.alive or process.dying:
            failed = ("setup", errno.EAGAIN)  # killed before it got there
            process.ended = process.ended or ExitInfo.from_signal(9)
        elif process.behaviour.exec_errno:
            failed = ("exec", process.behaviour.exec_errno)
            process.ended = ExitInfo.from_code(127)
        else:
            failed = None
            self.kernel.execute(process)
        if not self.alive:
            if not process.alive:
                self.kernel.reap(process)
            return
        requests, held.requests = held.requests, []
        if failed is not None:
            del self.instances[held.key]
            self.kernel.reap(process)
            for number, line in requests:
                self._answer(line, number, failed)
            return
        held.executed = True
        for number, line in requests:
            self._answer(line, number, held)
        if self._line is not None and all(line is not self._line for _, line in requests):
            self._tell("instance", held.key, held)

    def _held(self, process: Process) -> Held | None:
        key = f"{process.name}#{process.instance}"
        held = self.instances.get(key)
        return held if held is not None and held.process is process else None

    def _answer(self, line: Line, number: int, answer: Any) -> None:
        receiver = self._receiver
        if line is self._line and receiver is not None:
            line.send("manager", lambda: receiver.on_answer(number, answer))

    def _tell(self, kind: str, key: str, data: Any) -> None:
        receiver = self._receiver
        if self._line is not None and receiver is not None:
            self._line.send("manager", lambda: receiver.on_event(kind, key, data))
