"""Brings the manager back when it dies. Run by path, as the keeper; `duende up -d` starts it.

`python -I -S .../keeper/restarter.py JSON` with {"argv": the manager's command, "ready_fd": N, "lock": its lock file,
"held_fd": N}; the last is locked as long as we live, which tells others that a manager is coming.
The manager ends for good by exit code 0 (`duende down`), or by HANDED_OVER when another manager has the stack; anything
else is an accident and it is started again: at once the first time, then ever later, until it has lived for a minute.
An end before it was ready the first time is told to whoever started it, and is final. When the lock file
names a manager that is not ours, somebody else has had the stack since (and may have ended it with `duende down`): then
we end too.

Child subreaper: a keeper whose manager died becomes our child, and so does what falls from a keeper that dies. They
are reaped; how an instance ended, the next manager asks the kernel (PIDFD_GET_INFO, Linux 6.15).
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

HANDED_OVER = 75  # EX_TEMPFAIL of sysexits.h: another manager runs
_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STABLE_S = 60.0
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PR_SET_NAME = 15


class Restarter:
    """One manager at a time."""

    def __init__(self, argv: list[str], ready_fd: int, lock: str) -> None:
        self.argv = argv
        self.lock = lock
        self.ours: set[int] = set()  # every manager that we have started
        self.ready_fd = ready_fd
        self.manager = 0
        self.stopping = False

    def run(self) -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.pass_on)
        attempt = 0
        while True:
            began_s = time.monotonic()
            was_told = self.start()
            code = self.wait()
            if code in (0, HANDED_OVER) or self.stopping or was_told:
                return code if code >= 0 else 128 - code
            if time.monotonic() - began_s >= _STABLE_S:
                attempt = 0
            delay_s = _DELAYS_S[min(attempt, len(_DELAYS_S) - 1)]
            say(f"the manager ended with {code}; starting it again in {delay_s:g} s")
            attempt += 1
            if self.is_told_to_end(within_s=delay_s):
                return 0
            if self.is_replaced():
                say("another manager has had the stack meanwhile: leaving it to that one")
                return HANDED_OVER

    def start(self) -> bool:
        """Start it. True if it never became ready, and who waits for that has been told why by the manager itself."""
        inner = -1
        if self.ready_fd >= 0:
            inner, theirs = os.pipe()
            os.set_inheritable(theirs, True)
        argv = [*self.argv, str(theirs if inner >= 0 else -1)]
        self.manager = os.posix_spawn(argv[0], argv, os.environ)
        self.ours.add(self.manager)
        if inner < 0:
            return False
        os.close(theirs)
        said = b""
        while chunk := os.read(inner, 65536):
            said += chunk
        os.close(inner)
        with contextlib.suppress(OSError):  # whoever started us has gone meanwhile; the stack is up all the same
            os.write(self.ready_fd, said)
        os.close(self.ready_fd)
        self.ready_fd = -1
        return said != b"ready\n"

    def wait(self) -> int:
        """Reap all that ends, until it is the manager; its exit code, or minus the signal."""
        while True:
            pid, status = os.wait()
            if pid == self.manager:
                self.manager = 0
                return os.waitstatus_to_exitcode(status)

    def is_told_to_end(self, within_s: float) -> bool:
        """Wait that long for a signal to end."""
        asked = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, asked)
        try:
            return self.stopping or signal.sigtimedwait(asked, within_s) is not None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, asked)

    def is_replaced(self) -> bool:
        """Whether the last one to take the stack's lock was none of ours."""
        try:
            with open(self.lock, encoding="ascii", errors="replace") as file:
                holder = file.read(64).strip()
        except OSError:
            return False  # the folder is gone: the next manager makes it anew, or says why it can't
        return holder.isdigit() and int(holder) not in self.ours

    def pass_on(self, number: int, _: Any) -> None:
        self.stopping = True
        if self.manager:
            os.kill(self.manager, number)


def say(text: str) -> None:
    """Into the manager's log, which is our stderr."""
    with contextlib.suppress(OSError):  # the log's disk is full: that must not end what brings the manager back
        os.write(2, f"duende restarter: {text}\n".encode())


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"duende-restart", 0, 0, 0)
    task = json.loads(sys.argv[1])
    for fd in (task["ready_fd"], task["held_fd"]):
        os.set_inheritable(fd, False)
    sys.exit(Restarter(task["argv"], task["ready_fd"], task["lock"]).run())


if __name__ == "__main__":
    main()
