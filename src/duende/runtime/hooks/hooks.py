"""The hooks of a stack at work: one reader of the log, and for each hook that has something to be told one task.

Each hook is told its events in order, each again until it is delivered or given up; hooks do not wait for each other,
and the manager waits for none. Where each stands is stored after every delivery (ledger.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from duende.config.hook import HookConfig
from duende.errors import UnknownHook
from duende.runtime.eventlog import EventLog, rfc3339
from duende.runtime.hooks.ledger import Ledger
from duende.runtime.hooks.retry import Outcome, next_delay_s
from duende.runtime.hooks.states import HookState
from duende.runtime.store import Store
from duende.system.clock import Clock

__all__ = ["Hooks", "Send", "Tell"]

Send = Callable[[HookConfig, Mapping[str, Any]], Awaitable[Outcome]]
"""One attempt within the hook's own time; never raises for what the other side does."""

_POSITION = "hooks"  # the ledger's key in the store; each hook's own is `hook:NAME`
_ALERT_AFTER = 3  # attempts in a row that failed: one hiccup of a network is no news
_DRAIN_S = 2.0  # at the manager's end, for what is being delivered; the rest is for the next manager


class Tell(Protocol):
    """Record an event of the manager itself."""

    def __call__(self, kind: str, text: str, data: dict[str, Any]) -> None: ...


class Hooks:
    """Opened when the events of this manager begin, closed before the store is."""

    def __init__(
        self, hooks: Iterable[HookConfig], *, stack: str, store: Store, events: EventLog, clock: Clock, send: Send,
        tell: Tell, commit_soon: Callable[[], None], uniform: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._hooks = {hook.name: hook for hook in hooks}
        self._stack = stack
        self._store = store
        self._events = events
        self._clock = clock
        self._send = send
        self._tell = tell
        self._commit_soon = commit_soon
        self._uniform = uniform
        self._states = {name: HookState.from_json(store.meta(f"hook:{name}")) for name in self._hooks}
        self._ledger: Ledger | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by hook; the reader's is ""
        self._moved = asyncio.Event()

    def open(self, first_seq: int) -> None:
        """Go on where the last manager was; a first one begins after event `first_seq`."""
        stored = self._store.meta(_POSITION) or ""
        if not self._hooks:
            if stored:  # or hooks that come back in a year would be told a year's events
                self._store.stage_meta(_POSITION, "")
            return
        ledger = self._ledger = Ledger(self._hooks.values(), stored, last_seq=first_seq)
        self._store.stage_meta(_POSITION, ledger.to_json())
        self._own("", self._read(ledger))

    async def close(self) -> None:
        """Give what is being delivered a moment, then leave the rest to the next manager."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self._is_drained():
                    self._moved.clear()
                    await self._moved.wait()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def report(self, *, only_in_trouble: bool = False) -> list[dict[str, Any]]:
        """How the hooks are, in the wire form."""
        now_s, ledger = self._clock.monotonic_s(), self._ledger
        return [
            state.report(self._hooks[name], ledger.undelivered(name) if ledger else 0, now_s)
            for name, state in self._states.items()
            if state.is_failing or not only_in_trouble
        ]

    async def test(self, name: str) -> Outcome:
        """Send an event of the kind `test` now, once, past the queue. UnknownHook for one that is not there."""
        hook = self._hooks.get(name)
        if hook is None:
            known = ", ".join(self._hooks) or "none"
            raise UnknownHook(f"no hook {name!r} in stack {self._stack!r}; there are: {known}")
        if hook.start is not None:
            return Outcome(False, f"not tried: it would start {hook.start}; `duende start {hook.start}` does")
        event = {
            "seq": 0, "time": rfc3339(self._clock.wall_s()), "daemon": "", "kind": "test", "status": None,
            "cause": "duende hooks test", "message": f"a test of the hook {name}", "data": {},
        }  # fmt: skip
        return await self._attempt(hook, event)

    def _own(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[name] = asyncio.create_task(work)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell("alert", f"internal error: hooks: {type(error).__name__}: {error}", {})

    # --- the reader

    async def _read(self, ledger: Ledger) -> None:
        told_missing = 0
        async for event in self._events.follow(ledger.read_seq):
            for hook in ledger.take(event):
                if hook.name not in self._tasks:
                    self._own(hook.name, self._deliver(ledger, hook))
            self._store.stage_meta(_POSITION, ledger.to_json())
            self._moved.set()
            if ledger.missing > told_missing:
                lost, told_missing = ledger.missing - told_missing, ledger.missing
                text = f"{lost} events were no longer in the log when the hooks came to read them"
                self._tell("alert", text, {})

    def _is_drained(self) -> bool:
        """Whether nothing would be delivered at once any more: all is read, and nobody is trying."""
        if self._ledger is None:
            return True
        if self._tasks[""].done() or self._ledger.read_seq < self._store.last_seq():
            return self._tasks[""].done()
        return all(self._states[name].next_try_s is not None for name in self._tasks if name)

    # --- one hook

    async def _deliver(self, ledger: Ledger, hook: HookConfig) -> None:
        """Everything that waits for this hook, in order; then its task is over."""
        told_dropped = ledger.dropped.get(hook.name, 0)
        try:
            while (event := ledger.head(hook.name)) is not None:
                await self._until_done(hook, event)
                ledger.done(hook.name, event["seq"])
                self._store.stage_meta(_POSITION, ledger.to_json())
                self._commit_soon()
                if (dropped := ledger.dropped.get(hook.name, 0)) > told_dropped:
                    text = f"hook {hook.name}: its queue was full, {dropped - told_dropped} events were dropped"
                    self._tell("alert", text, {"hook": hook.name})
                    told_dropped = dropped
        finally:
            del self._tasks[hook.name]
            self._moved.set()

    async def _until_done(self, hook: HookConfig, event: Mapping[str, Any]) -> None:
        state = self._states[hook.name]
        began_s, attempts = self._clock.monotonic_s(), 0
        while True:
            outcome = await self._attempt(hook, event)
            attempts += 1
            if outcome.ok:
                self._delivered(hook, state, event, outcome)
                return
            state.last_error = self._entry(event, outcome)
            tried_s = self._clock.monotonic_s() - began_s
            delay_s = next_delay_s(
                outcome, attempts=attempts, tried_s=tried_s, patience_s=hook.patience_s, uniform=self._uniform()
            )
            if delay_s is None:
                state.given_up += 1
            if delay_s is None or attempts >= _ALERT_AFTER:
                self._failing(hook, state, event, outcome, is_given_up=delay_s is None)
            self._store.stage_meta(f"hook:{hook.name}", state.to_json())
            if delay_s is None:
                return
            state.next_try_s = self._clock.monotonic_s() + delay_s
            self._moved.set()
            try:
                await asyncio.sleep(delay_s)
            finally:
                state.next_try_s = None

    async def _attempt(self, hook: HookConfig, event: Mapping[str, Any]) -> Outcome:
        told = {"id": f"{self._stack}-{event['seq']}-{_digits(event['time'])}", "stack": self._stack,
                "hook": hook.name, **event}  # fmt: skip
        try:
            return await self._send(hook, told)
        except Exception as error:  # noqa: BLE001 - a bug of ours in one way of telling must not silence the others
            asyncio.get_running_loop().call_exception_handler({"message": f"hook {hook.name}", "exception": error})
            return Outcome(False, f"internal error: {type(error).__name__}: {error}", is_final=True)

    def _delivered(self, hook: HookConfig, state: HookState, event: Mapping[str, Any], outcome: Outcome) -> None:
        state.delivered += 1
        state.last_delivery = self._entry(event, outcome)
        if state.is_failing:
            state.is_failing = False
            self._tell("alert-cleared", f"hook {hook.name} delivers again", {"hook": hook.name})
        self._store.stage_meta(f"hook:{hook.name}", state.to_json())

    def _failing(
        self, hook: HookConfig, state: HookState, event: Mapping[str, Any], outcome: Outcome, *, is_given_up: bool
    ) -> None:
        """Say so once; it is over with the next delivery."""
        if state.is_failing:
            return
        state.is_failing = True
        what = "was given up" if is_given_up else "is not delivered yet"
        text = f"hook {hook.name}: event {event['seq']} ({event['kind']}) {what}: {outcome.text}"
        self._tell("alert", text, {"hook": hook.name})

    def _entry(self, event: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
        return {"seq": event["seq"], "time": rfc3339(self._clock.wall_s()), "text": outcome.text}


def _digits(time: str) -> str:
    """The event's time in its id: numbers begin anew when the state directory is removed."""
    return "".join(char for char in time if char.isdigit())
