"""The zygote's rehearsal leaves nothing behind in the process that instances are forked from."""

from __future__ import annotations

import os
import signal
import sys
import threading

from duende.worker.rehearsal import rehearse


def test_the_rehearsal_leaves_no_trace(capfd):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    rehearse()  # the first one may import what is imported lazily
    before = (
        sorted(sys.modules),
        list(sys.path),
        sorted(os.listdir("/proc/self/fd")),
        [signal.getsignal(number) for number in numbers],
        threading.active_count(),
        signal.set_wakeup_fd(-1),
    )
    capfd.readouterr()
    rehearse()
    assert before == (
        sorted(sys.modules),
        list(sys.path),
        sorted(os.listdir("/proc/self/fd")),
        [signal.getsignal(number) for number in numbers],
        threading.active_count(),
        signal.set_wakeup_fd(-1),
    )
    assert capfd.readouterr() == ("", "")
