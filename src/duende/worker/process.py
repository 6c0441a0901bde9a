"""Makes this process an instance: descriptors, output, signals, the class, its life, and a certain end.

The same for both ways to get here: executed (`python -m duende.worker`) or forked from the warm zygote.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from duende.errors import ConfigurationError
from duende.worker.context import DaemonContext
from duende.worker.control import CONTROL_VARIABLE, Control
from duende.worker.daemon import identify
from duende.worker.host import EXIT_FAILED, EXIT_PERMANENT, Host, StopTimes, report_failure, say
from duende.worker.settings import wants_reload
from duende.worker.signals import SignalRelay
from duende.worker.spec import SPEC_VARIABLE, WorkerSpec, take_descriptor
from duende.worker.target import load_daemon_class

__all__ = ["finish_generators", "forget_start_folder", "leave", "live_and_leave", "reopen_output", "set_process_name"]

_COMM_MAX_BYTES = 15  # TASK_COMM_LEN - 1, linux/sched.h
_DRAIN_S = 2.0  # for the last news on a control socket whose reader is slow


def live_and_leave(on_signals_ready: Callable[[], None] | None = None) -> NoReturn:
    """Be the instance that the environment describes, and end the process with its exit code.

    `on_signals_ready` is called when signals no longer kill, before any code of the user's is run.
    """
    reopen_output()
    control = Control(None)
    times = StopTimes.under_manager(10.0)
    try:
        control_fd = take_descriptor(CONTROL_VARIABLE)
        if control_fd is not None:
            control = Control(socket.socket(fileno=control_fd))
        spec_fd = take_descriptor(SPEC_VARIABLE)
        assert spec_fd is not None, "the caller has seen the variable"
        spec = WorkerSpec.read(spec_fd)
    except (ConfigurationError, OSError) as error:
        report_failure(control, "load", error)
        control.drain(_DRAIN_S)
        leave(EXIT_PERMANENT, times.total_s)
    set_process_name(spec.config.name)
    set_command_line(f"duende worker {spec.config.name} {spec.target}")
    times = StopTimes.under_manager(spec.config.shutdown_timeout)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    context = DaemonContext(spec.config, spec.places)
    relay = SignalRelay(loop, context.deliver)
    if on_signals_ready is not None:
        on_signals_ready()
    code, within_s = _live(spec, context, relay, loop, control, times)
    control.drain(min(_DRAIN_S, within_s))
    finish_generators(loop, within_s)
    # The loop stays open: closing it would give the signals back their deadly default while threads are waited for.
    leave(code, within_s)


def _live(
    spec: WorkerSpec,
    context: DaemonContext,
    relay: SignalRelay,
    loop: asyncio.AbstractEventLoop,
    control: Control,
    times: StopTimes,
) -> tuple[int, float]:
    """Load, construct and lead the daemon; return the exit code and the seconds that are left for the end."""
    sys.argv = [spec.target]
    sys.path[:0] = [folder for folder in spec.sys_path if folder not in sys.path]
    try:
        cls = load_daemon_class(spec.target)
    except ConfigurationError as error:
        report_failure(control, "load", error)
        return EXIT_PERMANENT, times.total_s
    try:
        daemon = cls()
    except (Exception, SystemExit) as error:  # noqa: BLE001  (user code: it is a failed start whatever it raises)
        report_failure(control, "init", error)
        return EXIT_FAILED, times.total_s
    identify(daemon, id=spec.id, name=spec.config.name)
    if wants_reload(daemon):
        from duende.worker.reloaded import with_last_reload  # here: not every daemon is ever reloaded

        context.config = with_last_reload(context.config, context.places)
    host = Host(daemon, context, control, times, spec.places.reload_signal)
    relay.receiver = host.deliver
    return loop.run_until_complete(host.live()), host.left_s()


def reopen_output() -> None:
    """Make stdout and stderr fit for a log: each line at once, any text, and no death when nobody reads any more."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        writer = io.BufferedWriter(_LogPipe(fd, "w", closefd=False))
        stream = io.TextIOWrapper(writer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


class _LogPipe(io.FileIO):
    """A pipe whose reader may die without hurting the writer: then what is written is lost."""

    def write(self, data: object) -> int | None:  # type: ignore[override]  # a buffer; typeshed's name is private
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def finish_generators(loop: asyncio.AbstractEventLoop, within_s: float) -> None:
    """Close the loop's async generators, so that their `finally` blocks run, for at most `within_s`."""

    async def finish() -> None:
        with suppress(TimeoutError):  # an `aclose` that hangs; the process ends all the same
            await asyncio.wait_for(loop.shutdown_asyncgens(), within_s)

    loop.run_until_complete(finish())


def forget_start_folder() -> None:
    """Drop the folder that `python -m` puts first on the search path: the manager says where to look."""
    package_folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not sys.flags.safe_path and sys.path and sys.path[0] != package_folder:
        del sys.path[0]


def set_process_name(name: str) -> None:
    """Show `name` in ps and top; cut to what the kernel keeps."""
    with suppress(OSError):  # only for the eye, and some containers mount /proc read-only
        with open("/proc/self/comm", "wb", buffering=0) as file:  # proc_pid_comm(5)
            file.write(name.encode()[:_COMM_MAX_BYTES])


def set_command_line(text: str) -> None:
    """Show `text` as the command line in ps, instead of the zygote's: as setproctitle(3) does, over the old one.

    The kernel says where it lies (arg_start and arg_end, fields 48 and 49 of proc_pid_stat(5)); Python has made its own
    copies of it long ago. Only for the eye: nothing happens where it can't be done.
    """
    import ctypes  # here: not every process that imports this module becomes an instance

    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        room = end - start
        ctypes.memmove(start, text.encode(errors="replace")[: room - 1].ljust(room, b"\0"), room)


def leave(code: int, within_s: float) -> NoReturn:
    """End the process as Python does (threads, atexit, flush), but for certain: after `within_s`, come what may.

    Without the interpreter's teardown: it can crash under daemon threads and frees only what the kernel frees anyway.
    """

    def give_up(_number: int, _frame: object) -> None:
        main = threading.main_thread()
        threads = [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
        what = f"threads that have not ended: {', '.join(threads)}" if threads else "an atexit function has not ended"
        say(f"{what}; exiting all the same")
        os._exit(code or EXIT_FAILED)

    # A timer signal and not a thread: it needs no resources, and its handler runs while this thread waits for a lock.
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, max(within_s, 0.01))
    threading._shutdown()  # type: ignore[attr-defined]  # joins what is not a daemon thread, as finalization does first
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the disk behind it is full, or user code closed it: nobody to tell
            stream.flush()
    os._exit(code)
