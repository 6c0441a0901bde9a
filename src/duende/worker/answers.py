"""Answers the manager's questions while the daemon runs: how are you, and what have you counted.

Blocking methods are asked in a thread. There is never more than one `health_check` under way: while one has not
answered, the next question is answered with unhealthy and that reason.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from inspect import iscoroutinefunction
from typing import Any

from duende.model.health import HealthStatus
from duende.worker.calls import CallThread, Outcome, call_here
from duende.worker.control import Control
from duende.worker.daemon import Daemon
from duende.worker.metrics import DaemonMetrics, MetricsSnapshot
from duende.worker.scope import Scope

__all__ = ["Answers", "health_of"]

_REASON_MAX_CHARS = 1000


class Answers:
    """Serves `health` and `metrics` for one daemon. Both questions are asked one at a time."""

    def __init__(self, daemon: Daemon, control: Control, scope: Scope) -> None:
        self.ready = False
        self._scope = scope
        self._daemon = daemon
        self._control = control
        self._threads: dict[str, CallThread] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started_s: dict[str, float] = {}
        self._last_reason = ""
        self._also: list[object] = []  # questions that the answer to our own is good for, too
        self._is_own = False  # the check under way was asked for here

    def on_request(self, message: dict[str, Any]) -> None:
        """Take one message of the manager; its answer carries the same `n`."""
        n, op = message.get("n"), message.get("op")
        match op:
            case "health" if not self.ready:
                self._control.answer({"n": n, **HealthStatus.unhealthy("init has not finished").to_json()})
            case "health" if self._is_own and self._busy_s("health_check") is not None:
                self._also.append(n)
            case "health" if (busy_s := self._busy_s("health_check")) is not None:
                reason = f"health_check still running after {busy_s:.1f} s"
                self._control.answer({"n": n, **HealthStatus.unhealthy(reason, busy_s * 1000.0).to_json()})
            case "health":
                self._begin("health_check", lambda outcome, s: self._health(n, outcome, s), self._with_children)
            case "metrics" if self._busy_s("metrics") is not None:
                self._control.answer({"n": n, "error": "metrics still running"})
            case "metrics":
                self._begin("metrics", lambda outcome, _: self._metrics(n, outcome))
            case _:
                self._control.answer({"n": n, "error": f"this worker does not know the request {op!r}"})

    async def ask_health(self) -> HealthStatus:
        """Ask from within; one that is under way is waited for."""
        while (task := self._tasks.get("health_check")) is not None and not task.done():
            await asyncio.wait({task})
        answer: asyncio.Future[HealthStatus] = asyncio.get_running_loop().create_future()
        self._is_own = True

        def then(outcome: Outcome, took_s: float) -> None:
            self._is_own = False
            status = self._judged(outcome, took_s)
            also, self._also = self._also, []
            for n in also:
                self._control.answer({"n": n, **status.to_json()})
            if not answer.done():  # whoever asked may be gone
                answer.set_result(status)

        self._begin("health_check", then, self._with_children)
        return await answer

    def own(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run it until `close`."""
        self._tasks[name] = asyncio.create_task(work, name=f"duende {name}")

    def close(self) -> None:
        """Ask nothing more; what is under way is cancelled."""
        for task in self._tasks.values():
            task.cancel()
        for thread in self._threads.values():
            thread.close()

    def _busy_s(self, name: str) -> float | None:
        task = self._tasks.get(name)
        return time.monotonic() - self._started_s[name] if task is not None and not task.done() else None

    def _begin(
        self, name: str, then: Callable[[Outcome, float], None],
        also: Callable[[Outcome], Awaitable[Outcome]] | None = None,
    ) -> None:  # fmt: skip
        method = getattr(self._daemon, name)
        inherited = getattr(type(self._daemon), name) is getattr(Daemon, name)  # answers at once: no need for a thread

        async def ask() -> None:
            if iscoroutinefunction(method) or inherited:
                outcome = await call_here(method)
            else:
                thread = self._threads.setdefault(name, CallThread(f"duende-{name}"))
                outcome = await thread.call(method)
            if also is not None:
                outcome = await also(outcome)
            then(outcome, time.monotonic() - self._started_s[name])

        self._started_s[name] = time.monotonic()
        self._tasks[name] = asyncio.create_task(ask(), name=f"duende {name}")

    async def _with_children(self, outcome: Outcome) -> Outcome:
        """The daemon's own answer, or the first child's that is not well."""
        reason = await self._scope.unhealthy()
        return Outcome(HealthStatus.unhealthy(reason)) if reason and _is_well(outcome) else outcome

    def _health(self, n: object, outcome: Outcome, took_s: float) -> None:
        self._control.answer({"n": n, **self._judged(outcome, took_s).to_json()})

    def _judged(self, outcome: Outcome, took_s: float) -> HealthStatus:
        status = _health_status(outcome, took_s * 1000.0)
        if outcome.error is not None and status.reason != self._last_reason:
            traceback.print_exception(outcome.error)  # once for the same failure in a row
            sys.stderr.flush()
        self._last_reason = status.reason
        return status

    def _metrics(self, n: object, outcome: Outcome) -> None:
        try:
            if outcome.error is not None:
                raise outcome.error
            self._control.answer({"n": n, "metrics": {**_metrics_json(outcome.value), **self._scope.metrics()}})
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  (user code; whatever it is, the answer says it)
            self._control.answer({"n": n, "error": f"metrics: {type(error).__name__}: {error}"[:_REASON_MAX_CHARS]})


async def health_of(daemon: Daemon) -> HealthStatus:
    """Ask a child: a `def` in a thread, for it may block."""
    began_s = time.monotonic()
    if iscoroutinefunction(daemon.health_check):
        outcome = await call_here(daemon.health_check)
    else:
        thread = CallThread("duende-health_check")
        try:
            outcome = await thread.call(daemon.health_check)
        finally:
            thread.close()
    return _health_status(outcome, (time.monotonic() - began_s) * 1000.0)


def _is_well(outcome: Outcome) -> bool:
    return _health_status(outcome, 0.0).is_healthy


def _health_status(outcome: Outcome, took_ms: float) -> HealthStatus:
    match outcome:
        case Outcome(error=None, value=HealthStatus() as status):
            # A latency that the daemon has measured itself (to its database, say) stands.
            return HealthStatus(status.is_healthy, status.latency_ms or took_ms, status.reason[:_REASON_MAX_CHARS])
        case Outcome(error=None, value=bool() as is_healthy):
            return HealthStatus(is_healthy, took_ms, "" if is_healthy else "health_check returned False")
        case Outcome(error=None, value=other):
            reason = f"health_check returned {other!r}, not a HealthStatus"
            return HealthStatus.unhealthy(reason[:_REASON_MAX_CHARS], took_ms)
        case Outcome(error=error):
            return HealthStatus.unhealthy(f"{type(error).__name__}: {error}"[:_REASON_MAX_CHARS], took_ms)


def _metrics_json(value: object) -> dict[str, Any]:
    match value:
        case DaemonMetrics():
            return value.snapshot().to_json()
        case MetricsSnapshot():
            return value.to_json()
        case Mapping():
            for name, number in value.items():
                if not isinstance(name, str) or not isinstance(number, int | float) or not math.isfinite(number):
                    raise TypeError(f"a mapping of names to finite numbers is needed, but it has {name!r}: {number!r}")
            return dict(value)
        case _:
            raise TypeError(f"DaemonMetrics or a mapping is needed, not {type(value).__name__}")
