"""Supervises the children of a daemon: services inside its process, restarted by the core's rules.

Each child is a `DaemonState` that `duende.core.lifecycle.step` moves, as the manager's daemons are; here its effects
mean: begin a life on this event loop, ask it to stop, cancel it. So policies, backoff, crash windows and limits are the
same. What a child's end means for its group is decided by `duende.core.group`: the others are stopped one after the
other, the youngest first; the one that has ended is begun only then, and each of the others when the one before it is
ready. Everything is done on the loop's thread; `Child` may be used from any.
"""

from __future__ import annotations

import asyncio
import functools
import random
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from duende.core.effects import ArmTimer, Effect, KillTree, Note, SendSignal, Spawn
from duende.core.events import (
    BecameReady,
    Event,
    Exited,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimerFired,
)
from duende.core.group import GroupPolicy, Strategy, also_restarted, restart_counted
from duende.core.lifecycle import step
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import RestartConfig, RestartPolicy
from duende.model.signals import Signal
from duende.model.status import DaemonStatus
from duende.worker.daemon import Daemon, identify
from duende.worker.life import EXIT_FAILED, Life, StopTimes, Witness, say
from duende.worker.services import Service, daemon_maker, restart_rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duende.worker.context import DaemonContext

__all__ = ["Child", "Supervisor"]

_CHILDREN_MAX = 256  # what is told of all of them has to fit into one packet of the control socket
_NAME_MAX_CHARS = 63  # as a daemon's
_MESSAGE_MAX_CHARS = 150
_KILL_AFTER_S = 1.0  # after its life has cancelled what it could: the core's own deadline


class Child:
    """One child; made by `ctx.supervise`. All may be used from any thread."""

    def __init__(self, name: str, group: str, essential: bool, policy: LifecyclePolicy) -> None:
        self.name = name
        self.group = group
        self.essential = essential
        self._state = DaemonState(policy=policy)
        self._life: Life | None = None
        self._daemon: Daemon | None = None
        self._held = 0  # the incarnation whose start waits for the group
        self._make: Callable[[], Daemon]
        self._post: Callable[[Event], None]
        self._context: DaemonContext
        self._config: Any = None

    @property
    def status(self) -> DaemonStatus:
        """Where it stands."""
        return self._state.status

    @property
    def ready(self) -> bool:
        """Whether its `init` has returned."""
        return self._state.ready

    @property
    def restarts(self) -> int:
        """How often it was started again, other than by `restart`."""
        return self._state.restarts

    @property
    def message(self) -> str:
        """How it ended last; empty when it never did."""
        return self._state.exit.message[:_MESSAGE_MAX_CHARS] if self._state.exit else ""

    def start(self) -> None:
        """Start it, after `stop` or when it was given up."""
        self._post(StartRequested())

    def stop(self) -> None:
        """Stop it; it stays stopped."""
        self._post(StopRequested())

    def restart(self) -> None:
        """Stop it and start it again."""
        self._post(RestartRequested())

    def wait_ready(self, timeout: float | None = None) -> Any:
        """Wait until it is ready (await it in a coroutine); False when `timeout` seconds have passed before."""
        return self._context.wait_until(lambda: self._state.ready, timeout)

    def wait_ended(self, timeout: float | None = None) -> Any:
        """Wait until it has ended and is not started again; False when `timeout` seconds have passed before."""
        return self._context.wait_until(lambda: self.status in _ENDED, timeout)

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.status.value}>"


_ENDED = (DaemonStatus.STOPPED, DaemonStatus.FAILED)


@dataclass(slots=True)
class _Group:
    """A group, and how far the restart of its members has come."""

    policy: GroupPolicy
    members: list[str] = field(default_factory=list)
    restarts_s: tuple[float, ...] = ()
    to_stop: list[str] = field(default_factory=list)  # in that order
    stop_asked: str = ""  # of those: who is ending now
    to_start: list[str] = field(default_factory=list)
    gate: str = ""  # who has to be ready before the next is started
    is_given_up: bool = False  # until somebody starts one by hand


class Supervisor:
    """The children of one daemon. `fail` ends the daemon; `changed` is called when a child's status is another."""

    def __init__(
        self, name: str, context: DaemonContext, loop: asyncio.AbstractEventLoop,
        fail: Callable[[str, BaseException], None], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._name = name
        self._context = context
        self._loop = loop
        self._fail = fail
        self._changed = changed
        self._lock = threading.Lock()
        self._children: dict[str, Child] = {}
        self._groups: dict[str, _Group] = {"": _Group(GroupPolicy())}
        self._queue: deque[tuple[Child, Event]] = deque()
        self._is_draining = False
        self._is_closing = False
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what a daemon asks for

    def add_group(self, name: str, strategy: str, intensity: int | None, period_s: float) -> None:
        """See `DaemonContext.group`."""
        try:
            policy = GroupPolicy(Strategy(strategy), intensity, float(period_s))
        except ValueError:
            known = ", ".join(one.value for one in Strategy)
            raise ValueError(f"ctx.group({name!r}): the strategy is one of {known}, not {strategy!r}") from None
        if (intensity is not None and intensity < 0) or period_s <= 0:
            reason = f"intensity is 0 or more and period above 0, not {intensity} and {period_s}"
            raise ValueError(f"ctx.group({name!r}): {reason}")
        with self._lock:
            if not name or name in self._groups:
                raise ValueError(f"ctx.group({name!r}): a group needs a name that is not taken")
            self._groups[name] = _Group(policy)

    def add(
        self, name: str, service: Service, *, restart: RestartConfig | RestartPolicy | str, group: str, essential: bool,
        settings: Mapping[str, Any], start_timeout_s: float, shutdown_timeout_s: float,
    ) -> Child:  # fmt: skip
        """See `DaemonContext.supervise`."""
        policy = LifecyclePolicy(
            restart=restart_rules(restart), start_timeout_s=start_timeout_s,
            shutdown_timeout_s=shutdown_timeout_s + _KILL_AFTER_S,
        )  # fmt: skip
        child = Child(name, group, essential, policy)
        child._make = daemon_maker(service)
        child._context = self._context
        child._config = replace(
            self._context.config, name=f"{self._name}/{name}", settings=MappingProxyType(dict(settings)),
            shutdown_timeout=shutdown_timeout_s,
        )  # fmt: skip
        child._post = functools.partial(self._post, child)
        with self._lock:
            if self._is_closing:
                raise RuntimeError(f"{self._name} is ending: no child can be begun any more")
            if not name or len(name) > _NAME_MAX_CHARS or name in self._children:
                reason = f"a child needs a name of its own, of at most {_NAME_MAX_CHARS} characters"
                raise ValueError(f"ctx.supervise({name!r}): {reason}")
            if group not in self._groups:
                raise ValueError(f"ctx.supervise({name!r}): there is no group {group!r}; make it by ctx.group first")
            if len(self._children) >= _CHILDREN_MAX:
                raise RuntimeError(f"{self._name} has {_CHILDREN_MAX} children; one more is not begun")
            self._children[name] = child
            self._groups[group].members.append(name)
        if threading.current_thread() is threading.main_thread():  # the loop's
            self._tell(child, StartRequested())
        else:
            child._post(StartRequested())
        return child

    async def close(self, cancel_at_s: float, give_up_s: float) -> list[str]:
        """Stop all, the youngest first, each when the one before has ended; return those that have not ended.

        At `cancel_at_s` (loop time) all that are left are cancelled at once, at `give_up_s` they are left behind.
        """
        with self._lock:
            self._is_closing = True
        for group in list(self._groups.values()):
            group.to_stop, group.to_start = [], []
        children = list(reversed(self._children.values()))
        for child in children:
            self._tell(child, StopRequested())
            await self._until_ended(child, cancel_at_s)
        for child in children:
            if child._life is not None:
                child._life.kill()
        for child in children:
            await self._until_ended(child, give_up_s)
        return [child.name for child in reversed(children) if child._life is not None]

    # --- how they are

    def describe(self) -> dict[str, dict[str, Any]]:
        """Each child in numbers and words."""
        return {
            child.name: {"status": child.status.value, "ready": child.ready, "restarts": child.restarts,
                         "message": child.message}
            for child in list(self._children.values())  # a thread may be adding one
        }  # fmt: skip

    def summary(self) -> str:
        """All in one line: how many run, and which do not and why."""
        others = [child for child in list(self._children.values()) if not child.ready]
        told = [": ".join(filter(None, (f"{child.name} {child.status.value}", child.message))) for child in others]
        count = f"{len(self._children) - len(others)} of {len(self._children)} children running"
        return "; ".join((count, *told))

    async def unhealthy(self) -> str:
        """The first child that is not well, and why; empty when all are."""
        from duende.worker.answers import health_of  # here: it imports this module's users

        for child in list(self._children.values()):
            if child.status in (DaemonStatus.BACKOFF, DaemonStatus.FAILED):
                return f"child {child.name}: {child.status.value}: {child.message}"
            daemon = child._daemon
            if child.ready and daemon is not None and type(daemon).health_check is not Daemon.health_check:
                found = await health_of(daemon)
                if not found.is_healthy and child._daemon is daemon:
                    return f"child {child.name}: {found.reason}"
        return ""

    # --- events and effects

    def _tell(self, child: Child, event: Event) -> None:
        """Let the core decide, one event after the other, and do what it says."""
        self._queue.append((child, event))
        if self._is_draining:
            return
        self._is_draining = True
        try:
            while self._queue:
                self._step(*self._queue.popleft())
        finally:
            self._is_draining = False

    def _post(self, child: Child, event: Event) -> None:
        """`_tell` from any thread."""
        self._loop.call_soon_threadsafe(self._tell, child, event)

    def _step(self, child: Child, event: Event) -> None:
        if isinstance(event, StartRequested | RestartRequested):
            self._groups[child.group].is_given_up = False
        before = child._state
        after, effects = step(before, event, now_s=self._loop.time(), uniform=random.random())
        child._state = after
        ended_unasked = isinstance(event, Exited) and before.status is not DaemonStatus.STOPPING
        if ended_unasked and after.status in (DaemonStatus.BACKOFF, DaemonStatus.STARTING):
            self._group_restart(child)
        for effect in effects:
            self._perform(child, effect)
        self._advance(self._groups[child.group])
        if after.status is not before.status or after.ready != before.ready:
            self._report(child, before)
            self._moved.set()
            self._context.notify()

    def _perform(self, child: Child, effect: Effect) -> None:
        match effect:
            case Spawn(instance=instance):
                child._held = instance  # `_advance` begins it
            case SendSignal(signal=number):
                if child._life is not None:
                    child._life.deliver(Signal(number))
            case KillTree():
                if child._life is not None:
                    child._life.kill()
            case ArmTimer(token=token, deadline_s=deadline_s):
                self._loop.call_at(deadline_s, self._tell, child, TimerFired(token))
            case Note():
                pass  # `_report` tells it in a child's words
            case _:
                raise AssertionError(f"a child can't be asked for {effect}")

    def _begin(self, child: Child) -> None:
        """Make and begin the incarnation that was held."""
        instance, child._held = child._held, 0
        context = type(self._context)(child._config, self._context.places, parent=self._context)
        try:
            daemon = child._make()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (user code: it is a failed start whatever it raises)
            traceback.print_exception(error)
            self._tell(child, SpawnFailed(instance, _exit_info(EXIT_FAILED, error)))
            return
        identify(daemon, id=None, name=child._config.name)
        child._daemon = daemon
        times = StopTimes.inside(child._config.shutdown_timeout)
        life = child._life = Life(daemon, context, times, _Watch(functools.partial(self._tell, child), instance))
        task = self._loop.create_task(self._see_through(child, life, instance), name=f"duende child {child.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._tell(child, Spawned(instance, awaits_ready=True))

    async def _see_through(self, child: Child, life: Life, instance: int) -> None:
        code = await life.live()
        child._life = child._daemon = None
        self._tell(child, Exited(instance, _exit_info(code, life.error)))

    def _report(self, child: Child, before: DaemonState) -> None:
        state, prefix = child._state, f"{self._name}: child {child.name}"
        if state.status is DaemonStatus.BACKOFF and state.next_start_s is not None:
            in_s = max(state.next_start_s - self._loop.time(), 0.0)
            say(f"{prefix}: {child.message}; try {state.attempt + 1} in {in_s:.1f} s")
        elif state.status is DaemonStatus.FAILED and before.status is not DaemonStatus.FAILED:
            why = state.failure.value if state.failure else "unknown"
            say(f"{prefix}: {child.message}; not started again ({why})")
            if child.essential and not self._is_closing:
                self._fail(f"child {child.name}", RuntimeError(f"child {child.name} was given up: {child.message}"))
        self._changed()

    # --- groups

    def _group_restart(self, child: Child) -> None:
        """It is about to be started again: and who else?"""
        group = self._groups[child.group]
        group.restarts_s, too_many = restart_counted(group.policy, group.restarts_s, self._loop.time())
        if too_many:
            self._give_up_group(group, child)
            return
        names = also_restarted(group.policy.strategy, group.members, child.name)
        # What somebody has stopped by hand is not the group's any more, also while it is still ending.
        begun = {name for name in names if self._is_begun(name) and self._children[name]._state.wanted}
        if names:
            again = begun | set(group.to_start)
            group.to_start = [name for name in group.members if name in again and name != child.name]
            group.to_stop = [name for name in reversed(names) if name in begun]
            group.stop_asked = ""
            group.gate = child.name

    def _give_up_group(self, group: _Group, child: Child) -> None:
        limit = f"more than {group.policy.intensity} restarts in {group.policy.period_s:g} s"
        say(f"{self._name}: group {child.group!r} is given up: {limit}; last: child {child.name}: {child.message}")
        group.to_stop, group.to_start, group.is_given_up = [], [], True
        for name in reversed(group.members):
            self._queue.append((self._children[name], StopRequested()))
        if any(self._children[name].essential for name in group.members):
            self._fail(f"group {child.group}", RuntimeError(f"{limit}; last: child {child.name}: {child.message}"))

    def _advance(self, group: _Group) -> None:
        """Do what is due in a group: the next stop, what waited for that, the next start."""
        while group.to_stop and not self._is_begun(group.to_stop[0]):
            group.to_stop.pop(0)
        if group.to_stop and group.stop_asked != group.to_stop[0]:
            group.stop_asked = group.to_stop[0]
            self._queue.append((self._children[group.stop_asked], StopRequested(for_now=True)))
        elif not group.to_stop:
            group.stop_asked = ""
        for name in list(group.members):
            child = self._children[name]
            if child._held and child.status is DaemonStatus.STOPPING:
                instance, child._held = child._held, 0
                self._queue.append((child, SpawnFailed(instance, ExitInfo(ExitReason.GRACEFUL, "not begun"))))
            elif child._held and not group.to_stop and not group.is_given_up:
                self._begin(child)
        while group.to_start and not group.to_stop and self._is_settled(group.gate):
            following = self._children[group.to_start.pop(0)]
            if following._state.wanted:
                group.gate = following.name
                self._queue.append((following, StartRequested()))

    def _is_begun(self, name: str) -> bool:
        """Whether there is something to stop; what is held has not begun and waits for its group in any case."""
        child = self._children[name]
        return (child.status.has_instance and not child._held) or child.status is DaemonStatus.BACKOFF

    def _is_settled(self, name: str) -> bool:
        """Ready, or ended for good: nothing more is to be waited for."""
        state = self._children[name]._state
        is_over = state.status is DaemonStatus.STOPPED and (state.completed or not state.wanted)
        return state.ready or is_over or state.status is DaemonStatus.FAILED

    async def _until_ended(self, child: Child, deadline_s: float) -> None:
        while child._life is not None:
            self._moved.clear()
            try:
                async with asyncio.timeout_at(deadline_s if deadline_s != float("inf") else None):
                    await self._moved.wait()
            except TimeoutError:
                return


class _Watch(Witness):
    """Brings a child's news to its supervisor."""

    def __init__(self, tell: Callable[[Event], None], instance: int) -> None:
        self._tell = tell
        self._instance = instance

    def on_ready(self) -> None:
        self._tell(BecameReady(self._instance))

    def on_failed_start(self, stage: str, error: BaseException) -> None:
        traceback.print_exception(error)


def _exit_info(code: int, error: BaseException | None) -> ExitInfo:
    if error is None or isinstance(error, SystemExit):
        return ExitInfo.from_code(code)
    return ExitInfo(ExitReason.ERROR, f"{type(error).__name__}: {error}", code=code or EXIT_FAILED)
