"""What must hold in every run, at every moment or when it has come to rest. `INVARIANTS` names each.

The checks believe the kernel's model, the disk and the user's own words; what the manager thinks is only ever compared
with these. Where nobody can know (a request whose manager died before the answer, what a full disk could not keep),
both outcomes are allowed, and no third.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter, defaultdict
from typing import Any

from duende.adapters.base import InstanceKey
from duende.config.daemon import KillMode
from duende.core.state import DaemonState
from duende.model.condition import Condition
from duende.model.status import DaemonStatus
from duende.runtime.driver import Slot

from .kernel import Parent, Process
from .world import Life, Operation, World

__all__ = [
    "FALSE_ALARM",
    "FORGOTTEN_INSTANCE",
    "HALF_DOWN",
    "INVARIANTS",
    "KNOWN",
    "LOST_READY",
    "LOST_WITH_KEEPER",
    "OWN_STRAY",
    "STALE_BOOT",
    "STALE_COMPLETION",
    "UNSEEN_CONTINUE",
    "Checks",
]

INVARIANTS = frozenset({
    "one instance", "wish", "on record first", "exit is true", "exit once", "backoff stands", "timer in time",
    "order", "answered", "comes to rest", "runs", "nothing else runs", "status says", "timers fit", "no alarm",
    "nothing kept", "spared", "reboot is no failure", "history complete",
})  # fmt: skip

# Defects that are known and not mended yet; test_known.py shows each. Take one out when it is.
HALF_DOWN = "what was being stopped for a `down` that died is not started by the next `up`"
STALE_COMPLETION = "what completed before a reboot or a `down` counts as completed for those that come after it"
UNSEEN_CONTINUE = "SIGCONT to a paused instance that has no keeper any more is not seen"
FORGOTTEN_INSTANCE = "a start that a full disk could not record is forgotten if manager and keeper die"
LOST_READY = "READY=1 that a manager has read and did not live to write down is not heard of again"
LOST_WITH_KEEPER = "READY=1 that manager and keeper have heard is not heard of again when both die before it is written"
OWN_STRAY = "an instance that executes just while a new manager connects is taken for a stray and killed"
FALSE_ALARM = "an incarnation that has ended and was not released yet is said to be «still there»"
STALE_BOOT = "what was not configured at the first start after a boot is later taken for running since before it"
KNOWN = {FORGOTTEN_INSTANCE, LOST_WITH_KEEPER}

_CLOSE_S = 0.5  # requests nearer than this may have been taken in either order
_SLACK_S = 1.0  # between a deadline and what it brings
_STARTS, _STOPS = ("start", "restart"), ("stop", "kill")


class Checks:
    """Listens to one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.configs = world.stack.daemons
        self.wishes = {name: {config.autostart} for name, config in self.configs.items()}
        self.forgot: set[str] = set()  # a full disk could not keep what was known of these
        self.disk: dict[str, dict[str, Any] | None] = {}  # what is written
        self._asked: dict[str, list[tuple[float, str]]] = defaultdict(list)
        self._licence_s: dict[str, float] = {}  # the last moment at which somebody asked for a start
        self._backoff: dict[str, tuple[int, float, float]] = {}  # instance, deadline, when it was decided
        self._slept = False
        self._edited: set[str] = set()  # their numbers may have begun anew
        self._killed: set[str] = set()
        self._was_going_down = False
        self._came_up: set[tuple[str, str]] = set()  # (name, "executed" | "ready") since the stack was down
        self._started: set[str] = set()
        self._first_look: set[str] = set()  # not written by this life yet
        self._completed_before: set[str] = set()  # in the life before this of the stack
        world.on_spawn_asked = self._spawn_asked
        world.on_stray = self._stray
        world.on_kill = self._kill
        world.on_executed = self._executed
        world.on_ready = self._ready
        world.on_committed = self._committed
        world.on_answered = self._answered
        world.on_open = self._opened
        world.on_death = self._died

    # --- what the player says

    def asked(self, verb: str, names: tuple[str, ...], *, named: bool) -> None:
        """A user asks; until the answer either is possible. A start of all leaves alone what was stopped by hand."""
        self._was_going_down |= verb == "down"
        for name in names:
            self._asked[name].append((self.world.now_s, verb))
            if verb in _STARTS:
                if verb == "restart" or named:
                    self.wishes[name] = self.wishes[name] | {True}
                self._licence_s[name] = self.world.now_s
            elif verb in _STOPS:
                self.wishes[name] = self.wishes[name] | {False}

    def edited(self, name: str) -> None:
        """Configured or not for managers to come: until one is there, and after it was taken back, who knows."""
        self.wishes[name] = {True, False}
        self._edited.add(name)

    def rebooted(self) -> None:
        self._new_era()

    def slept(self) -> None:
        self._slept = True

    def status(self, status: dict[str, Any]) -> None:
        """`duende status` says why nothing runs where something should."""
        for one in status["daemons"]:
            quiet = one["status"] not in ("running", "created")
            if quiet and one["wanted"] and not one["message"]:
                self.world.fail("status says", f"nothing about {one['name']}, which is {one['status']}")

    # --- what happens

    def _opened(self, life: Life) -> None:
        for name in self._edited:  # what had been asked of it may have been forgotten meanwhile
            self.wishes[name] = {True, False} if name in life.manager.stack.daemons else {False}

    def _died(self, life: Life) -> None:
        store = getattr(life.manager, "_store", None)
        if store is not None:
            for name in store._pending_records:
                self._forget(name)
        self._first_look = set(self.configs)
        if life.manager.finished.is_set():
            self._new_era()

    def _forget(self, name: str) -> None:
        self.world.log(f"what was known of {name} could not be written")
        self.forgot.add(name)
        self.wishes[name] = {True, False}
        self._backoff.pop(name, None)

    def _new_era(self) -> None:
        self._came_up.clear()
        self._started.clear()
        self._backoff.clear()
        self._completed_before |= {name for name, state in self.disk.items() if state and state["completed"]}

    def _answered(self, operation: Operation) -> None:
        error = operation.task.exception()
        self.world.log(f"answered {operation.verb}: {error or operation.task.result()}")
        if error is not None:
            if type(error).__name__ != "ShuttingDown":
                self.world.fail("answered", f"{operation.verb} raised {error!r}")
            return
        if operation.timeout_s is not None:
            took_s = self.world.now_s - operation.asked_s
            if took_s > operation.timeout_s + _SLACK_S:
                self.world.fail("answered", f"{operation.verb} took {took_s:g} s, not {operation.timeout_s:g} s")
        if operation.verb not in (*_STARTS, *_STOPS):
            return
        for name in operation.names:
            if operation.verb == "start" and not operation.named:
                continue
            others = [at_s for at_s, verb in self._asked[name] if verb in (*_STARTS, *_STOPS)]
            later = sum(at_s > operation.asked_s - _CLOSE_S for at_s in others) > 1
            trouble = bool(self.world.life and self.world.life.manager._store.trouble)
            if not later and not trouble:
                self.wishes[name] = {operation.verb in _STARTS}

    def _spawn_asked(self, key: InstanceKey) -> None:
        name = key.name
        written = self.disk.get(name)
        is_configured = name in self.world.life.manager.stack.daemons if self.world.life else False
        if self.wishes[name] == {False} and is_configured:  # another is only made to be ended in order
            self.world.fail("wish", f"{key} is started, which the user has stopped")
        life = self.world.life
        is_kept = life is not None and not life.manager._store.trouble and name not in self.forgot
        is_written = written is not None and written["status"] in _WITH_INSTANCE
        if is_kept and not (is_written and written is not None and written["instance"] == key.instance):
            self.world.fail("on record first", f"{key} is started, the disk says {_short(written)}")
        self._check_backoff(key)
        if name not in self._started:
            self._started.add(name)
            for other, condition in self.configs[name].after.items():
                what = "executed" if condition is Condition.STARTED else "ready"
                is_known = STALE_COMPLETION in KNOWN and other in self._completed_before
                is_unsure = bool({name, other} & self.forgot)
                if (other, what) not in self._came_up and not (is_known or is_unsure):
                    self.world.fail("order", f"{key} is started, though {other} was not {what} yet")

    def _check_backoff(self, key: InstanceKey) -> None:
        instance, deadline_s, decided_s = self._backoff.pop(key.name, (-1, 0.0, 0.0))
        if instance != key.instance - 1 or self._licence_s.get(key.name, -1.0) >= decided_s - _CLOSE_S:
            return
        now_s = self.world.clock.boottime_s()
        if now_s < deadline_s - 0.001:
            self.world.fail("backoff stands", f"{key} is started {deadline_s - now_s:g} s before its backoff ends")
        life = self.world.life
        if life is None or not life.was_up:
            return  # a takeover takes as long as the death of what was left
        ready_s = max(deadline_s, life.opened_s + self.world.slept_s - self.world.booted_s)
        if now_s > ready_s + _SLACK_S and not self._slept:
            self.world.fail("timer in time", f"{key} is started {now_s - deadline_s:g} s after its backoff has ended")

    def _executed(self, process: Process) -> None:
        config = self.configs.get(process.name)
        others = [one for one in self.world.kernel.living(process.name)
                  if one.executed and one is not process and one.leader is not process]  # fmt: skip
        if config is not None and config.kill_mode is KillMode.PROCESS:
            others = [one for one in others if one.leader is None]
        if FORGOTTEN_INSTANCE in KNOWN and process.name in self.forgot:
            others = [one for one in others if (one.leader or one).parent is not Parent.INIT]
        if others:
            self.world.fail("one instance", f"{process} is executed beside {', '.join(map(str, others))}")
        self._came_up.add((process.name, "executed"))
        if config is not None and config.daemon is None and not config.ready.notify:
            self._came_up.add((process.name, "ready"))

    def _stray(self, key: InstanceKey) -> None:
        """What is wanted and on record must not be taken for something that nobody wants."""
        state = self.disk.get(key.name)
        is_ours = state is not None and state["instance"] == key.instance and state["status"] == "starting"
        if is_ours and OWN_STRAY not in KNOWN:
            self.world.fail("spared", f"{key} is killed as a stray; the disk says {_short(state)}")

    def _kill(self, key: InstanceKey) -> None:
        """Before it answers anybody, a manager has no reason to kill what is newer than all it knows."""
        self._killed.add(str(key))
        state, life = self.disk.get(key.name), self.world.life
        if state is None or life is None or life.listening or key.name not in life.manager.stack.daemons:
            return
        if key.instance > state["instance"]:
            self.world.fail("spared", f"{key} is killed by a new manager; the disk says {_short(state)}")

    def _ready(self, process: Process) -> None:
        self._came_up.add((process.name, "ready"))

    def _committed(self, written: dict[str, Any]) -> None:
        for name, state in written.items():
            before, self.disk[name] = self.disk.get(name), state
            if state is None:
                continue
            self._check_timers(name, state)
            if state["completed"] or (state["exit"] and state["exit"]["reason"] == "graceful"):
                self._came_up |= {(name, "ready"), (name, "executed")} if state["completed"] else set()
            backoff = [deadline_s for kind, _, deadline_s in state["timers"] if kind == "backoff"]
            if backoff:
                known = self._backoff.get(name)
                if known is None or known[0] != state["instance"]:
                    self._backoff[name] = (state["instance"], backoff[0], self.world.now_s)
                elif known[1] != backoff[0] and name not in self.forgot:
                    self.world.fail("backoff stands", f"{name}'s backoff was moved from {known[1]:g} to {backoff[0]:g}")
            else:
                self._backoff.pop(name, None) if state["status"] != "starting" else None
            if name in self._first_look:
                self._first_look.discard(name)
                self._compare_lives(name, before, state)
            self._check_exit(name, state["instance"], state["exit"], state["status"])

    def _compare_lives(self, name: str, before: dict[str, Any] | None, state: dict[str, Any]) -> None:
        """The first word of a new manager about what it found."""
        same = before is not None and before["status"] == state["status"] == "backoff"
        if same and before is not None and before["instance"] == state["instance"]:
            for field in ("attempt", "timers", "restarts", "failures_s"):
                if before[field] != state[field]:
                    text = f"{name}'s {field} was {before[field]}, and is {state[field]} for the next manager"
                    self.world.fail("backoff stands", text)

    def _check_timers(self, name: str, state: dict[str, Any]) -> None:
        fits = {"starting": {"start"}, "stopping": {"stop", "kill"}, "backoff": {"backoff"}}
        kinds = [kind for kind, _, _ in state["timers"]]
        if not set(kinds) <= fits.get(state["status"], set()) or len(kinds) != len(set(kinds)):
            self.world.fail("timers fit", f"{name} is {state['status']} with timers {kinds}")

    def _check_exit(self, name: str, instance: int, exit_info: dict[str, Any] | None, status: str) -> None:
        """What is told of an end is what the kernel has told, or says that nobody knows."""
        if exit_info is None or name in self.forgot or exit_info["errno"] is not None:
            return
        if status in _WITH_INSTANCE or exit_info["transient"]:
            return  # of a former incarnation, or of none
        told = (exit_info["code"], exit_info["signal"])
        lived = [one for one in self.world.kernel.everybody
                 if (one.name, one.instance) == (name, instance) and one.leader is None and one.executed]  # fmt: skip
        if not lived:
            return
        if any(one.ended and (one.ended.code, one.ended.signal) == told != (None, None) for one in lived):
            return
        if status == "stopped" and any(one.boot != self.world.kernel.boot for one in lived):
            return  # after a boot the last end that was seen stays shown
        if told != (None, None):
            ends = [one.ended.message if one.ended else "lives" for one in lived]
            self.world.fail("exit is true", f"{name}#{instance} is said to have {exit_info['message']}; it {ends}")
        elif all(one.rebooted for one in lived):
            if not (STALE_BOOT in KNOWN and name in self._edited):
                text = f"{name}#{instance} went with the machine: {exit_info['message']}"
                self.world.fail("reboot is no failure", text)
        elif all(one.ended and one.parent is not Parent.INIT for one in lived) and exit_info["reason"] == "unknown":
            self.world.fail("exit is true", f"how {name}#{instance} ended was known, and is said not to be")

    # --- when everything has come to rest

    def at_rest(self) -> None:
        """The last look."""
        world = self.world
        life = world.life
        if life is None or not life.listening or not life.alive:
            world.fail("comes to rest", "there is no manager after all that quiet")
            return
        for complaint in world.complaints:
            world.fail("no alarm", complaint)
        for operation in life.operations:
            slots = [life.manager.slots[name] for name in operation.names if name in life.manager.slots]
            waits = any(slot.state.waiting for slot in slots)
            excused = any(self._lost_its_ready(slot) or self._went_on_unseen(slot) for slot in slots)
            if operation.ended_s is None and not (waits or excused):
                world.fail("answered", f"{operation.verb} {operation.names} of {operation.asked_s:.3f} has no answer")
        self.status(life.manager.status())
        for slot in life.manager.slots.values():
            self._slot_at_rest(slot)
        for process in world.kernel.living():
            if process.name not in life.manager.slots and not self._is_forgotten(process):
                world.fail("nothing else runs", f"{process}, which is not configured any more")
        self._keeper_at_rest()
        self._history()

    def _slot_at_rest(self, slot: Slot) -> None:
        world, state, name = self.world, slot.state, slot.config.name
        processes = world.kernel.living(name)
        leaders = [one for one in processes if one.leader is None]
        if FORGOTTEN_INSTANCE in KNOWN and name in self.forgot:
            leaders = [one for one in leaders if one.parent is not Parent.INIT or one.instance == state.instance]
        now_s = world.clock.boottime_s()
        where = f"{name} is {state.status.value} (wanted: {state.wanted}, since {now_s:g}: {_short(state.to_json())})"
        if state.timers:
            world.fail("comes to rest", f"{where} with {state.timers}")
        if state.status is DaemonStatus.RUNNING:
            if len(leaders) != 1 or leaders[0].instance != state.instance or leaders[0].stopped:
                world.fail("runs", f"{where}, but there are {[str(one) for one in processes]}")
            if not state.wanted:
                world.fail("nothing else runs", where)
            if self.wishes[name] == {False}:
                world.fail("wish", f"{where}, and the user has stopped it")
            return
        if self._lost_its_ready(slot):
            return
        if self._went_on_unseen(slot):
            return
        if state.status.has_instance or (state.status is DaemonStatus.BACKOFF and not state.waiting):
            world.fail("comes to rest", where)
        lost = FORGOTTEN_INSTANCE in KNOWN and name in self.forgot
        lost = lost and all(one.parent is Parent.INIT for one in processes)
        if processes and slot.config.kill_mode is not KillMode.PROCESS and not lost:
            world.fail("nothing else runs", f"{where}, but there are {[str(one) for one in processes]}")
        if self.wishes[name] == {True} and not self._may_be_down(state, slot):
            world.fail("runs", f"{where}, and the user wants it")
        if self.wishes[name] == {False} and state.wanted:
            world.fail("wish", f"{where}, and the user has stopped it")

    def _is_forgotten(self, process: Process) -> bool:
        return FORGOTTEN_INSTANCE in KNOWN and process.name in self.forgot and process.parent is Parent.INIT

    def _lost_its_ready(self, slot: Slot) -> bool:
        alive = self.world.kernel.living(slot.config.name)
        said = any(one.ready_heard and one.instance == slot.state.instance for one in alive)
        has_keeper = any(one.parent is Parent.KEEPER for one in alive)
        return (
            LOST_WITH_KEEPER in KNOWN
            and not has_keeper
            and slot.state.status is DaemonStatus.STARTING
            and slot.state.executed
            and said
        )

    def _went_on_unseen(self, slot: Slot) -> bool:
        has_keeper = any(one.parent is Parent.KEEPER for one in self.world.kernel.living(slot.config.name))
        return UNSEEN_CONTINUE in KNOWN and slot.state.status is DaemonStatus.PAUSED and not has_keeper

    def _may_be_down(self, state: DaemonState, slot: Slot) -> bool:
        """Completed, given up with a reason, or waiting for something that is not there."""
        life = self.world.life
        assert life is not None
        if not state.wanted:
            return False
        if state.waiting:
            return bool(life.manager._unmet(slot))
        if HALF_DOWN in KNOWN and state.status is DaemonStatus.STOPPED and self._was_going_down:
            return True
        return state.completed or (state.status is DaemonStatus.FAILED and state.failure is not None)

    def _keeper_at_rest(self) -> None:
        keeper = self.world.keeper
        for held in keeper.instances.values() if keeper is not None else ():
            if not held.process.alive:
                self.world.fail("nothing kept", f"the keeper still holds {held.process}, which has ended")

    def _history(self) -> None:
        """Every end once, as it was; nothing that lived is missing."""
        with contextlib.closing(sqlite3.Connection(self.world.paths.state_db)) as db:
            rows = db.execute("SELECT name, instance, ended, exit FROM history").fetchall()
            alerts = db.execute("SELECT daemon, message FROM event WHERE kind = 'alert'").fetchall()
        for daemon, message in alerts:
            if "internal error" in message:
                self.world.fail("no alarm", f"{daemon}: {message}")
            if "was still there" in message and message.split()[0] not in self._killed and FALSE_ALARM not in KNOWN:
                self.world.fail("no alarm", f"{message}; nobody has killed it")
        told = Counter((name, instance) for name, instance, _, _ in rows)
        for (name, instance), count in told.items():
            if count > 1 and name not in self.forgot | self._edited:
                self.world.fail("exit once", f"{name}#{instance} is in the history {count} times")
        for name, instance, ended, exit_info in rows:
            if ended is not None:
                self._check_exit(name, instance, json.loads(exit_info), "stopped")
        self._check_history_is_complete(told, {(name, instance) for name, instance, ended, _ in rows if ended is None})

    def _check_history_is_complete(self, told: Counter[tuple[str, int]], running: set[tuple[str, int]]) -> None:
        for process in self.world.kernel.everybody:
            key = (process.name, process.instance)
            is_instance = process.executed and process.known and process.leader is None and not process.rebooted
            if process.parent is Parent.INIT or not is_instance or process.name in self.forgot | self._edited:
                continue  # it may have gone with the keeper before a manager had written down what it had heard
            if key not in told:
                self.world.fail("history complete", f"{process} is not in the history")
            elif key in running and not process.alive:
                self.world.fail("history complete", f"{process} has ended, and the history does not say so")


_WITH_INSTANCE = frozenset(status.value for status in DaemonStatus if status.has_instance)


def _short(state: dict[str, Any] | None) -> str:
    if state is None:
        return "nothing"
    return ", ".join(f"{key}={state[key]!r}" for key in ("status", "instance", "wanted", "waiting", "timers"))
