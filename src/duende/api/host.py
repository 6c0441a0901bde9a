"""A manager with its API, as a process: what `duende up` and `duende run` become.

In the foreground it shows what the daemons write, and Ctrl-C stops everything in order; a second one kills. In the
background it is a process of its own session whose start is over when the API answers. Either way it can be killed at
any moment: the daemons go on, and the next `up` takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from duende.api.background import HANDED_OVER, READY, load_chosen
from duende.api.server import ApiServer
from duende.config.daemon import LogFormat, StackConfig
from duende.config.load import load_text
from duende.config.paths import CONFIG_NAME, StackPaths, make_private, sanitized_name, stack_paths
from duende.config.replicas import expand_replicas
from duende.errors import DuendeError, ManagerRunning
from duende.model.exits import exit_code_of
from duende.model.status import DaemonStatus
from duende.runtime.descriptors import DescriptorAlert
from duende.runtime.logs.record import LogRecord
from duende.runtime.manager import DaemonManager
from duende.runtime.reaper import Reaper
from duende.runtime.stacklock import StackLock
from duende.runtime.store import Store

__all__ = ["Show", "background_main", "run_command", "run_foreground"]

Show = Callable[[LogRecord], None]
_LAST_WORDS_S = 0.1  # from the pipe's end through pump and file to the view; there is no event for the last step
_VIEW_QUEUE_MAX = 1000  # lines
_VIEW_RETRY_S = 0.05  # only while the terminal stands still; a thread's queue has no event for asyncio
_SHUT_DOWN_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_foreground(
    path: str, stack: str, *, overrides: Mapping[str, Any], names: Sequence[str], show: Show, say: Callable[[str], None]
) -> int:
    """Be the manager of a stack until it is told to end. `show` gets each line that a daemon writes, `say` what
    happens.
    """
    loaded = load_chosen(path, stack, overrides, names)
    return asyncio.run(_host(loaded, show=show, say=say, ready_fd=None, until_done=False))


def run_command(
    command: Sequence[str] | None, target: str | None, *, name: str | None, restart: str | None, env: Mapping[str, str],
    settings: Mapping[str, str], show: Show, say: Callable[[str], None],
) -> int:  # fmt: skip
    """Supervise one command or class until it has ended for good; its own exit code is ours (128 + signal)."""
    folder = os.getcwd()
    chosen = name or sanitized_name(os.path.basename(command[0]) if command else str(target).rpartition(":")[2])
    lines = [f"[stack]\nname = {json.dumps(f'run-{chosen}-{os.getpid()}'[:63])}\n[daemon.{json.dumps(chosen)}]"]
    if command:  # a JSON string without surrogates is a TOML string
        lines.append(f"command = {json.dumps([word.replace('$', '$$') for word in command])}")
    else:
        lines.append(f"daemon = {json.dumps(target)}")
    if restart:
        lines.append(f"restart = {json.dumps(restart)}")
    if env:
        pairs = ", ".join(f"{json.dumps(key)} = {json.dumps(value.replace('$', '$$'))}" for key, value in env.items())
        lines.append(f"env = {{ {pairs} }}")
    overrides = {f"daemon.{json.dumps(chosen)}.{key}": value for key, value in settings.items()}
    loaded = load_text("\n".join(lines) + "\n", label="duende run", directory=folder, overrides=overrides)
    paths = stack_paths(loaded.name)
    code = asyncio.run(_host(expand_replicas(loaded), show=show, say=say, ready_fd=None, until_done=True))
    if not os.path.exists(paths.keeper_socket):  # nothing runs any more: it was only for this time, state and all
        shutil.rmtree(paths.runtime_dir)
        shutil.rmtree(paths.state_dir)
    return code


def background_main() -> None:
    """The background process: `argv[1]` is the task that `start_background` left, `argv[2]` where to say that we are
    ready.
    """
    task, fd = json.loads(sys.argv[1]), int(sys.argv[2])
    ready_fd = fd if fd >= 0 else None
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ending = bool(task.get("ending"))
    try:
        loaded = load_chosen(task["path"], task["stack"], task["overrides"], task["names"])
        if ending:
            _go_on_with_the_end(stack_paths(loaded.name))
        resume = ending or ready_fd is None
        code = asyncio.run(
            _host(loaded, show=None, say=_to_log, ready_fd=ready_fd, until_done=False, resume=resume, ending=ending)
        )
    except DuendeError as error:
        with contextlib.suppress(OSError):  # the API was up already, so the descriptor is closed and nobody listens
            os.write(fd, str(error).encode())
        _to_log(f"duende: {error}")
        sys.exit(HANDED_OVER if isinstance(error, ManagerRunning) else 1)
    if code:
        _to_log(f"duende: ended because an essential daemon did, with code {code}")
    sys.exit(0)  # in order: the restarter shall not bring it back


def _go_on_with_the_end(paths: StackPaths) -> None:
    """Leave word that a stop of the whole stack is under way: who resumes then starts nothing."""
    make_private(paths.runtime_dir)
    make_private(paths.state_dir)
    lock = StackLock(paths.name, paths)
    lock.take()
    try:
        store = Store(Path(paths.state_db))
        try:
            store.set_meta("running", "stopping")
        finally:
            store.close()
    finally:
        lock.release()


def _to_log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _host(
    stack: StackConfig,
    *,
    show: Show | None,
    say: Callable[[str], None],
    ready_fd: int | None,
    until_done: bool,
    resume: bool = False,
    ending: bool = False,
) -> int:
    since_s = time.time()
    manager = DaemonManager(stack, resume=resume)
    reaper = Reaper(lambda: manager.own_children())
    descriptors = DescriptorAlert(manager.tell)
    await manager.open()
    server = ApiServer(manager)
    code = 0
    try:
        reaper.install()
        descriptors.install()
        await server.listen(manager.paths.socket)
        _remember_file(manager)
        if ready_fd is not None:
            os.write(ready_fd, READY)
            os.close(ready_fd)
        view = None if show is None else _View(show, say)
        with contextlib.ExitStack() as while_it_lasts:
            while_it_lasts.enter_context(_signals(manager, view.say if view else say))
            while_it_lasts.enter_context(_watching(manager, view, since_s))
            if view is None:
                while_it_lasts.enter_context(_listening_anew(manager, server))
            if ending:
                while_it_lasts.enter_context(_ending(manager))
            if until_done:
                code = await _until_done(manager)
            else:
                await manager.finished.wait()
                code = manager.exit_code
            if view is not None:
                await manager.drained(_LAST_WORDS_S * 10)
                await asyncio.sleep(_LAST_WORDS_S)
        if view is not None:
            view.close()
    finally:
        await server.close()
        reaper.remove()
        descriptors.remove()
        await manager.close()
    return code


def _remember_file(manager: DaemonManager) -> None:
    """A link to the stack's file in the state directory: who ends what a dead manager left needs it."""
    if manager.config_path is None:
        return
    link = f"{manager.paths.state_dir}/{CONFIG_NAME}"
    try:
        if os.path.islink(link) and os.readlink(link) == manager.config_path:
            return
        beside = f"{link}.new"
        with contextlib.suppress(FileNotFoundError):  # left by a manager that was killed in between
            os.unlink(beside)
        os.symlink(manager.config_path, beside)
        os.replace(beside, link)
    except OSError as error:  # a full disk; without the link, a file has to be named some day
        manager.tell("alert", f"cannot write {link}: {error.strerror}")


@contextlib.contextmanager
def _listening_anew(manager: DaemonManager, server: ApiServer) -> Iterator[None]:
    """SIGHUP makes the API's socket again: somebody may have emptied the runtime directory."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def again() -> None:
        try:
            make_private(manager.paths.runtime_dir)
            await server.listen_anew()
        except DuendeError as error:
            manager.tell("alert", str(error))
        else:
            manager.tell("manager", "listens anew")

    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(asyncio.ensure_future(again())))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # not the default, which would end us in the midst of the end
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def _ending(manager: DaemonManager) -> Iterator[None]:
    """Stop all at once; a manager that found word of that in the store is at it already, and a second time is none."""
    task = asyncio.ensure_future(manager.shutdown())
    try:
        yield
    finally:
        task.cancel()


@contextlib.contextmanager
def _signals(manager: DaemonManager, say: Callable[[str], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops in order, the next kills what is left."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    def asked() -> None:
        if not tasks:
            say("stopping; once more kills")
            tasks.append(asyncio.ensure_future(manager.shutdown()))
        else:
            tasks.append(asyncio.ensure_future(manager.kill(wait=False)))

    for number in _SHUT_DOWN_SIGNALS:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in _SHUT_DOWN_SIGNALS:
            loop.remove_signal_handler(number)
        for task in tasks:
            task.cancel()


class _View:
    """A thread that prints, so that a terminal that stands still (Ctrl-S, a slow ssh) never holds up supervision.

    What it can't print yet waits in a bounded queue; behind that, lines wait in their files and events in the store.
    """

    def __init__(self, show: Show, say: Callable[[str], None]) -> None:
        self._show, self._say = show, say
        self._queue: queue.Queue[LogRecord | str | None] = queue.Queue(_VIEW_QUEUE_MAX)
        self._thread = threading.Thread(target=self._print, name="duende-view", daemon=True)
        self._thread.start()

    async def put(self, item: LogRecord | str) -> None:
        """Print it when its turn comes."""
        while True:
            try:
                self._queue.put_nowait(item)
            except queue.Full:
                await asyncio.sleep(_VIEW_RETRY_S)
            else:
                return

    def say(self, text: str) -> None:
        """Print a word of our own; dropped if the terminal does not take anything any more."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(text)

    def close(self) -> None:
        """Print what waits, for as long as that is quick."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
            self._thread.join(_LAST_WORDS_S * 10)

    def _print(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, str):
                self._say(item)
            else:
                self._show(item)


async def _show_lines(manager: DaemonManager, view: _View, names: list[str], since_s: float | None) -> None:
    """All that is written from `since_s` on: a quick command may have ended before anybody could begin to follow."""
    lines = None if since_s is not None else 0
    async for record in manager.log_store.follow(names, lines=lines, since_s=since_s):
        await view.put(record)


async def _tell(manager: DaemonManager, view: _View) -> None:
    """What happens to the daemons, one line each, as it happens."""
    async for event in manager.events.follow(manager.first_seq):
        if event["kind"] == "status":
            text = f": {event['message']}" if event["message"] else ""
            await view.put(f"{event['daemon']} {event['status']}{text}")
        elif event["kind"] not in ("manager",):
            await view.put(f"{event['daemon']} {event['kind']}: {event['message']}".strip())


@contextlib.contextmanager
def _watching(manager: DaemonManager, view: _View | None, since_s: float) -> Iterator[None]:
    """Show what is written and what happens, as long as this lasts."""
    # The lines of a raw log bear no time: those are shown from now on only.
    raw = [name for name, slot in manager.slots.items() if slot.config.log.format is LogFormat.RAW]
    timed = [name for name in manager.slots if name not in raw]
    running = []
    if view is not None:
        running.append(asyncio.ensure_future(_tell(manager, view)))
        for names, start_s in ((timed, since_s), (raw, None)):
            if names:
                running.append(asyncio.ensure_future(_show_lines(manager, view, names, start_s)))
    try:
        yield
    finally:
        for task in running:
            task.cancel()


async def _until_done(manager: DaemonManager) -> int:
    """Wait until the one daemon has ended for good, or the manager is told to end."""
    slot = next(iter(manager.slots.values()))
    finished = asyncio.ensure_future(manager.finished.wait())
    while not finished.done():
        if slot.state.status in (DaemonStatus.STOPPED, DaemonStatus.FAILED):
            break
        changed = asyncio.ensure_future(slot.changed.wait())
        await asyncio.wait((finished, changed), return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
    finished.cancel()
    await manager.shutdown()
    return exit_code_of(slot.state.exit)
