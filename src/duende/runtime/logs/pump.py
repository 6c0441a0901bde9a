"""Moves the output of all instances from their pipes to the log files, in one thread with its own epoll loop.

Why a thread: a flood, a slow disk or a full one must not hold up the manager's asyncio loop. The rules:
- Wake up only when something happened: edge-triggered epoll, an eventfd for requests, a timer only while one is due.
- One block per stream and turn, in order, so a flood delays its neighbours by one block each.
- What can't be written stays in its pipe and holds up its writer, nobody else. A full disk is reported once and tried
  again every second; the streams of that file rest meanwhile.
- The pump takes over each descriptor it is given and closes it at the end of the stream, at `detach` and at `close`.
  Whoever wants the pipe to outlive the manager holds another descriptor for it (the keeper does).
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from stat import S_ISBLK, S_ISDIR, S_ISREG

from duende.config.daemon import LogConfig, LogFormat
from duende.errors import DuendeError, InvalidState, PlatformIoError
from duende.runtime.logs.archive import Archivist
from duende.runtime.logs.capture import Capture
from duende.runtime.logs.cursor import CursorFile
from duende.runtime.logs.encode import make_encoder
from duende.runtime.logs.listen import LineListener
from duende.runtime.logs.logfile import LogFile
from duende.runtime.logs.naming import STREAMS, active_path, check_name, stem_for
from duende.runtime.logs.source import BLOCK_BYTES, RAW_BLOCK_BYTES, Scratch, open_source

__all__ = ["LogPump"]

# How often a file that could not be written is tried again. Space comes back without telling; a second is soon enough
# for people, and one failed open or write per second costs nothing.
_RETRY_INTERVAL_S = 1.0
# How long the beginning of a line waits for its end before it is shown as a piece.
_PIECE_AFTER_S = 1.0
# When a pipe that holds the beginning of a line is first looked at again; each next time is twice as far off.
_FIRST_LOOK_S = 0.001
# A stream that fills this much at once is a flood, and gets a pipe of 1 MiB.
_FLOOD_BYTES = 32 * 1024
# Large pipes at a time: a quarter of what one user may have in all (fs.pipe-user-pages-soft, 64 MiB by default;
# above it the kernel gives that user's other programs pipes of one page).
_GROWN_MAX = 16

_HUNG_UP = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR

AlertHandler = Callable[[str, str], None]
ClearHandler = Callable[[str], None]


class LogPump:
    """The capture of one stack. Its methods may be called from any thread.

    `on_alert(daemon, message)` and `on_alert_cleared(daemon)` are called from the pump's threads and must not block.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        on_alert: AlertHandler = lambda daemon, message: None,
        on_alert_cleared: ClearHandler = lambda daemon: None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._log_dir = log_dir
        self._on_alert = on_alert
        self._on_cleared = on_alert_cleared
        self._wall_ns = wall_ns
        self._requests: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()  # over _subscribers and _accepting
        self._subscribers: dict[str, list[Callable[[], None]]] = {}
        self._accepting = False
        self._captures: dict[int, Capture] = {}
        self._ready: deque[Capture] = deque()
        self._looks_due: dict[Capture, float] = {}
        self._files: dict[Path, LogFile] = {}
        self._stalled: dict[LogFile, tuple[float, list[Capture]]] = {}
        self._alerted: set[LogFile] = set()
        self._grown_count = 0
        self._close_by_s: float | None = None
        self._archivist = Archivist(self._archive_alert)
        self._thread = threading.Thread(target=self._run, name="duende-logs", daemon=True)

    def start(self) -> None:
        """Start both threads. PlatformIoError when the log directory can't be made."""
        try:
            self._log_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise PlatformIoError(f"cannot make the log directory {self._log_dir}: {error.strerror}") from error
        self._cursors = self._open_cursors()
        self._scratch = Scratch()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._wake_fd, select.EPOLLIN | select.EPOLLET)
        self._accepting = True
        self._archivist.start()
        self._thread.start()

    def attach(
        self, daemon: str, instance: int, stream: str, fd: int, config: LogConfig, listener: LineListener | None = None
    ) -> None:
        """Capture `fd` from now on and own it; on an error it is closed. Several instances may be attached at once."""
        try:
            check_name(daemon)
            if stream not in STREAMS:
                raise InvalidState(f"cannot capture {stream!r} of {daemon}: neither stdout nor stderr")
            mode = os.fstat(fd).st_mode
            if S_ISREG(mode) or S_ISDIR(mode) or S_ISBLK(mode):
                raise InvalidState(f"cannot capture {stream} of {daemon}: descriptor {fd} is a file, not a pipe")
            self._request(lambda: self._attach(daemon, instance, stream, fd, config, listener))
        except DuendeError:
            os.close(fd)
            raise

    def detach(self, daemon: str) -> None:
        """Write what a daemon's pipes hold now, then let go of them."""
        self._request(lambda: self._detach(daemon))

    def drained(self, daemon: str, instance: int) -> Future[None]:
        """Done when all streams of the instance have ended and are written; at once when none is attached.

        Cancelled when the pump is closed before.
        """
        future: Future[None] = Future()
        self._request(lambda: self._watch(daemon, instance, future))
        return future

    def reopen(self) -> None:
        """Close all log files; each is opened by name again for its next line (after a logrotate)."""

        def close_files() -> None:
            for file in self._files.values():
                file.close()

        self._request(close_files)

    def subscribe(self, daemon: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called from the pump's thread after each write to the daemon's log; returns how to stop."""
        with self._lock:
            self._subscribers.setdefault(daemon, []).append(callback)

        def unsubscribe() -> None:
            with self._lock:
                callbacks = self._subscribers.get(daemon, [])
                if callback in callbacks:
                    callbacks.remove(callback)
                if not callbacks:
                    self._subscribers.pop(daemon, None)

        return unsubscribe

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what the pipes hold now and stop. False if that took longer: the rest stays in the pipes.

        Does not wait for the ends of streams: they outlive the manager, and the next one goes on where this one
        stopped.
        """
        with self._lock:
            if not self._accepting:
                return True
            self._accepting = False
        deadline_s = time.monotonic() + timeout_s

        def stop() -> None:
            self._close_by_s = deadline_s

        self._requests.append(stop)
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join(timeout_s + 1.0)  # a disk that hangs can't be interrupted
        in_time = self._archivist.close(max(deadline_s - time.monotonic(), 0.1))
        return not self._thread.is_alive() and in_time

    def _request(self, act: Callable[[], None]) -> None:
        with self._lock:
            if not self._accepting:
                raise InvalidState("cannot capture output: the log pump is not running")
            self._requests.append(act)
            os.eventfd_write(self._wake_fd, 1)

    def _open_cursors(self) -> CursorFile:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        try:
            return CursorFile(self._log_dir / ".cursors", boot_id)
        except OSError as error:
            self._on_alert(
                "", f"cannot keep {self._log_dir}/.cursors: {error.strerror}; a killed manager may repeat lines"
            )
            return CursorFile.in_memory()

    def _archive_alert(self, daemon: str, message: str) -> None:
        if message:
            self._on_alert(daemon, message)
        else:
            self._on_cleared(daemon)

    # From here on: the pump's thread.

    def _run(self) -> None:
        while self._close_by_s is None:
            for fd, mask in self._epoll.poll(self._wait_s()):
                if fd == self._wake_fd:
                    os.eventfd_read(self._wake_fd)
                    continue
                capture = self._captures[fd]
                capture.hung_up = capture.hung_up or bool(mask & _HUNG_UP)
                self._enqueue(capture)
            while self._requests:
                self._requests.popleft()()
            self._fire_timers()
            for _ in range(len(self._ready)):
                self._serve(self._ready.popleft())
        self._finish(self._close_by_s)

    def _wait_s(self) -> float | None:
        if self._ready:
            return 0.0
        due = [*self._looks_due.values(), *(retry_s for retry_s, _ in self._stalled.values())]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _fire_timers(self) -> None:
        if not self._looks_due and not self._stalled:
            return
        now_s = time.monotonic()
        for capture in [capture for capture, due_s in self._looks_due.items() if due_s <= now_s]:
            del self._looks_due[capture]
            capture.flush = capture.piece_at_s is not None and capture.piece_at_s <= now_s
            self._enqueue(capture)
        for file in [file for file, (retry_s, _) in self._stalled.items() if retry_s <= now_s]:
            for capture in self._stalled.pop(file)[1]:
                self._enqueue(capture)

    def _enqueue(self, capture: Capture) -> None:
        if not capture.queued and not capture.ended:
            capture.queued = True
            self._ready.append(capture)

    def _serve(self, capture: Capture) -> None:
        """One turn of one stream."""
        capture.queued = False
        if capture.file in self._stalled:
            self._stalled[capture.file][1].append(capture)
            return
        now_s = time.monotonic()
        try:
            moved = capture.turn(now_s)
        except OSError as error:
            self._stall(capture, error, now_s)
            return
        if capture.waits_for_newline:
            self._look_again(capture, now_s)
        else:
            self._looks_due.pop(capture, None)
            capture.piece_at_s = None
        if moved:
            self._moved(capture, moved)
        if capture.ended:
            self._end(capture)
        elif capture.has_more:
            self._enqueue(capture)

    def _look_again(self, capture: Capture, now_s: float) -> None:
        """Look soon, without an event, at a pipe in which the beginning of a line was left.

        A write(2) larger than the pipe does not wake its reader while it sleeps for room, if the pipe was not empty
        when it went on (pipe_write in fs/pipe.c, Linux 5.5 and later): the writer would wait for us, we for it. Ten
        looks, one to 512 ms apart, then the piece is written and the pipe is empty: it costs nothing from then on.
        """
        if capture.piece_at_s is None:
            capture.piece_at_s = now_s + _PIECE_AFTER_S
            capture.look_delay_s = _FIRST_LOOK_S
        else:
            capture.look_delay_s *= 2
        self._looks_due[capture] = min(now_s + capture.look_delay_s, capture.piece_at_s)

    def _moved(self, capture: Capture, moved: int) -> None:
        if capture.file in self._alerted:
            self._alerted.discard(capture.file)
            self._on_cleared(capture.daemon)
        if moved >= _FLOOD_BYTES and not capture.grown and self._grown_count < _GROWN_MAX:
            capture.grown = True
            self._grown_count += 1
            capture.source.grow()
        if self._subscribers:
            with self._lock:
                callbacks = list(self._subscribers.get(capture.daemon, ()))
            for callback in callbacks:
                callback()

    def _stall(self, capture: Capture, error: OSError, now_s: float) -> None:
        file = capture.file
        self._stalled[file] = (now_s + _RETRY_INTERVAL_S, [capture])
        if file not in self._alerted:
            self._alerted.add(file)
            reason = error.strerror or str(error)
            self._on_alert(
                capture.daemon,
                f"cannot write {file.path}: {reason}; the output waits in its pipe and is tried again every second",
            )

    def _attach(
        self, daemon: str, instance: int, stream: str, fd: int, config: LogConfig, listener: LineListener | None
    ) -> None:
        directory = config.directory or self._log_dir
        stem = stem_for(daemon, stream, config.format)
        path = active_path(directory, stem)
        file = self._files.get(path)
        if file is None:
            file = LogFile(daemon, directory, stem, config, self._cursors, self._archivist, self._wall_ns)
            self._files[path] = file
        file.config = config
        try:
            is_raw = config.format is LogFormat.RAW
            source = open_source(fd, self._scratch, RAW_BLOCK_BYTES if is_raw else BLOCK_BYTES)
            cursor = self._cursors.claim(source.identity)
        except (OSError, DuendeError) as error:
            os.close(fd)
            self._on_alert(daemon, f"cannot capture {stream} of {daemon}: {error}")
            return
        encoder = make_encoder(config.format, daemon, instance, stream)
        capture = Capture(
            daemon, instance, stream, source, cursor, encoder, file, config.format, self._wall_ns, listener
        )
        self._captures[fd] = capture
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def _detach(self, daemon: str) -> None:
        for capture in [capture for capture in self._captures.values() if capture.daemon == daemon]:
            capture.left_bytes = capture.source.waiting_bytes()
            self._enqueue(capture)

    def _watch(self, daemon: str, instance: int, future: Future[None]) -> None:
        streams = [c for c in self._captures.values() if c.daemon == daemon and c.instance == instance]
        if not streams:
            future.set_result(None)
        for capture in streams:
            capture.watchers.append(future)

    def _end(self, capture: Capture) -> None:
        self._epoll.unregister(capture.source.fd)
        del self._captures[capture.source.fd]
        capture.close()
        self._looks_due.pop(capture, None)
        self._grown_count -= capture.grown
        if all(other.file is not capture.file for other in self._captures.values()):
            capture.file.close()
            self._files.pop(capture.file.path, None)
            self._alerted.discard(capture.file)
        for future in capture.watchers:
            if not any(future in other.watchers for other in self._captures.values()) and not future.done():
                future.set_result(None)

    def _finish(self, deadline_s: float) -> None:
        for capture in list(self._captures.values()):
            now_s = time.monotonic()
            if capture.file not in self._stalled and now_s < deadline_s:
                try:
                    capture.finish(now_s)
                except OSError as error:
                    self._stall(capture, error, now_s)
            for future in capture.watchers:
                future.cancel()
            capture.close()
        for file in self._files.values():
            file.close()
        self._captures.clear()
        self._epoll.close()
        self._scratch.close()
        self._cursors.close()
