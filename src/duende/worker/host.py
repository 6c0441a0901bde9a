"""The main daemon of a process: its life, what the manager asks and is told of it, and its reloads."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from typing import Any

from duende.errors import ConfigurationError
from duende.model.signals import Signal
from duende.worker.answers import Answers
from duende.worker.context import DaemonContext
from duende.worker.control import Control
from duende.worker.daemon import Daemon
from duende.worker.life import EXIT_FAILED, EXIT_PERMANENT, Life, StopTimes, Witness, say
from duende.worker.settings import wants_reload
from duende.worker.watchdog import interval_s, keep_pinging

__all__ = ["EXIT_FAILED", "EXIT_PERMANENT", "Host", "StopTimes", "report_failure", "say"]

# A control message is one packet; JSON may write one character in six bytes.
_ERROR_MAX_CHARS = 1000
_TRACEBACK_HALF_CHARS = 4000


class Host(Witness):
    """`deliver` takes the signals; `live` returns the exit code."""

    def __init__(
        self, daemon: Daemon, context: DaemonContext, control: Control, times: StopTimes,
        reload_signal: Signal = Signal.HUP,
    ) -> None:  # fmt: skip
        self._daemon = daemon
        self._context = context
        self._control = control
        self._life = Life(daemon, context, times, self)
        self._life.scope.on_change = self._tell_status
        self._answers = Answers(daemon, control, self._life.scope)
        self._reload_signal = reload_signal if wants_reload(daemon) else None
        self._reloads: asyncio.Task[None] | None = None
        self._reload_again = False

    def deliver(self, signal: Signal) -> None:
        """Hand a signal to the daemon; the one that means reload reaches it when its new settings are in force."""
        if signal is self._reload_signal and self._answers.ready:
            self._reload_again = True
            if self._reloads is None or self._reloads.done():
                self._reloads = asyncio.create_task(self._reload(signal), name="duende reload")
            return
        self._life.deliver(signal)

    def left_s(self) -> float:
        """Seconds until the process must be gone; the whole time for it while nobody has asked to stop."""
        return self._life.left_s()

    async def live(self) -> int:
        """Lead the life; return the exit code. What the daemon leaves behind on the loop is cancelled."""
        self._control.listen(asyncio.get_running_loop(), self._answers.on_request)
        try:
            code = await self._life.live()
        finally:
            self._answers.close()
        code = max(code, await self._cancel_leftovers())
        self._context.close()
        return code

    def on_ready(self) -> None:
        self._answers.ready = True
        self._control.tell({"ev": "ready"})
        if (every_s := interval_s(os.environ)) is not None:
            self._answers.own("watchdog", keep_pinging(every_s, self._answers.ask_health))

    def on_stopping(self) -> None:
        self._control.tell({"ev": "stopping"})

    def on_failed_start(self, stage: str, error: BaseException) -> None:
        report_failure(self._control, stage, error)

    def _tell_status(self, text: str, details: dict[str, Any]) -> None:
        self._control.tell_latest({"ev": "status", "text": text[:_ERROR_MAX_CHARS], **details})

    async def _reload(self, signal: Signal) -> None:
        from duende.worker.reload import reload_settings  # here: not every daemon is ever reloaded

        while self._reload_again:  # a signal during a reload: the file may have changed since it was read
            self._reload_again = False
            refusal = await reload_settings(self._daemon, self._context)
            self._life.scope.note = f"reload refused: {refusal}" if refusal else ""
            self._tell_status(self._life.scope.summary(), {"reload": "refused" if refusal else "done"})
            if refusal:
                for line in refusal.splitlines():
                    say(f"{self._daemon.name}: reload refused, the old settings stay in force: {line}")
            else:
                self._life.deliver(signal)

    async def _cancel_leftovers(self) -> int:
        """Cancel the tasks that the daemon started and did not await; 1 if some do not end."""
        present = asyncio.current_task()
        tasks = {task for task in asyncio.all_tasks() if task is not present}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self.left_s())
        stubborn = sorted(task.get_name() for task in tasks if not task.done() and not _is_ours(task))
        if stubborn:
            say(f"{self._daemon.name}: tasks that did not end when cancelled: {', '.join(stubborn)}")
        return EXIT_FAILED if stubborn else 0


def report_failure(control: Control, stage: str, error: BaseException) -> None:
    """Tell the manager that the start has failed, and write the traceback to stderr, which is the log."""
    text = "".join(traceback.format_exception(error))
    if stage == "settings" and isinstance(error, ConfigurationError):
        text = f"{error}\n"  # where in which file; our own frames would only hide it
    control.tell(_failure_message(stage, error, text))  # first: the log may have no room for a giant one just now
    print(text, end="", file=sys.stderr, flush=True)


def _failure_message(stage: str, error: BaseException, text: str) -> dict[str, Any]:
    if len(text) > 2 * _TRACEBACK_HALF_CHARS:
        text = f"{text[:_TRACEBACK_HALF_CHARS]}\n[…]\n{text[-_TRACEBACK_HALF_CHARS:]}"
    summary = str(error) if stage in ("load", "settings") else f"{type(error).__name__}: {error}"
    return {"ev": "failed", "stage": stage, "error": summary[:_ERROR_MAX_CHARS], "traceback": text}


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether it is one of our calls, of which has been complained already."""
    return task.get_name().startswith("duende ")
