"""F101: a wall clock that is set back, or on, by an hour stops nothing: timers, backoff, health checks, stops go on.

The real clock is not touched: manager, keeper and daemons run with a library before libc (LD_PRELOAD) that adds
the number of seconds in a file to the wall clock, and to no other clock, as settimeofday(2) would.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from datetime import datetime

import pytest

from tests.harness import Stack

HOUR_S = 3600

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char text[32] = "";
    const char *path = getenv("SHIFT_FILE");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    long n = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return n > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    int result = syscall(SYS_clock_gettime, id, ts);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) ts->tv_sec += shift();
    return result;
}
time_t time(time_t *at) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (at) *at = ts.tv_sec;
    return ts.tv_sec;
}
int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
"""

TOML = """
[daemon.crashing]           # backoff: 1 s after each crash
command = ["sh", "-c", "echo run; sleep 0.2; exit 3"]
restart = { policy = "always", delay = "1s", max_delay = "1s", jitter = 0.0 }

[daemon.checked]            # a health check that leaves a mark each time
daemon = "checked:Checked"
health_check = { interval = "100ms", timeout = "2s" }

[daemon.probed]
command = ["sleep", "1000"]
health_check = { exec = ["sh", "-c", "echo x >> probes"], interval = "100ms", timeout = "2s" }

[daemon.stubborn]           # a stop that needs its time-out
command = ["sh", "-c", "trap '' TERM; echo run; while :; do sleep 0.1; done"]
shutdown_timeout = "1s"

[daemon.late]               # a start that needs its time-out
command = ["sleep", "1000"]
ready = { notify = true }
start_timeout = "2s"
restart = "never"
autostart = false
"""

CHECKED = """\
from duende import Daemon, HealthStatus

class Checked(Daemon):
    async def run(self, ctx):
        while not ctx.should_shutdown:
            await ctx.sleep(0.1)
            open("slept", "a").write("x\\\\n")
    def health_check(self):
        open("checks", "a").write("x\\\\n")
        return HealthStatus.healthy()
"""


@pytest.mark.claim("F101")
def test_a_clock_set_back_hangs_nothing(stack: Stack, claim_figure) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (python tools/provision.py installs gcc)")
    source, library = stack.root / "shift.c", stack.root / "shift.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True, timeout=60)
    shift = stack.root / "shift"
    shift.write_text("0")
    stack.file("checked.py", CHECKED.replace("\\\\n", "\\n"))
    stack.write(TOML)
    stack.env = {**stack.env, "LD_PRELOAD": str(library), "SHIFT_FILE": str(shift)}

    def set_clock(by_s: int) -> None:
        (stack.root / "shift.new").write_text(str(by_s))
        os.rename(stack.root / "shift.new", shift)

    def lines(name: str) -> int:
        path = stack.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def goes_on(what: str) -> None:
        """For seconds after the step everything goes on at its own pace, and neither stands still nor runs wild."""
        before = {name: lines(name) for name in ("checks", "probes", "slept")}
        restarts = stack.daemon("crashing")["restarts"]
        uptime_s = stack.daemon("checked")["uptime_s"]
        began_s = time.monotonic()
        # Timers that are armed after the step.
        done = stack.run("restart", "stubborn")
        took_s = time.monotonic() - began_s
        assert done.returncode == 0, what
        assert 1.0 <= took_s < 3.0, (what, took_s)
        late_s = time.monotonic()
        assert stack.run("start", "late").returncode == 1, what  # never ready: given up after two seconds
        assert 2.0 <= time.monotonic() - late_s < 5.0, what
        passed_s = time.monotonic() - began_s
        for name, count in before.items():
            rate = (lines(name) - count) / passed_s
            assert 2.0 < rate < 12.0, (what, name, rate)
        again = stack.daemon("crashing")["restarts"] - restarts
        assert passed_s / 2.5 - 1 < again < passed_s / 1.2 + 1, (what, again, passed_s)
        one = stack.daemon("checked")
        assert abs(one["uptime_s"] - uptime_s - (time.monotonic() - began_s)) < 1.0, (what, one["uptime_s"], uptime_s)
        assert (one["status"], one["restarts"], one["health"]["healthy"]) == ("running", 0, True), what
        claim_figure(f"{what}: checks a second", (lines("checks") - before["checks"]) / passed_s, "")

    stack.up("--no-wait")
    stack.until(lambda: lines("checks") and lines("probes"), "the first checks")
    goes_on("before")
    # A backoff is under way, and a stop and a start with their deadlines, while the clock is set.
    for what, by_s in (("back", -HOUR_S), ("on", HOUR_S)):
        stack.until(lambda: stack.daemon("crashing")["status"] == "backoff", "a backoff")
        restarts = stack.daemon("crashing")["restarts"]
        stop = stack.popen("restart", "stubborn")
        stack.until(lambda: stack.daemon("stubborn")["status"] == "stopping", "a stop under way")
        began_s = time.monotonic()
        set_clock(by_s)
        assert stop.wait(10) == 0
        assert time.monotonic() - began_s < 3.0
        stack.until(lambda restarts=restarts: stack.daemon("crashing")["restarts"] > restarts, "the next start", 3.0)
        goes_on(what)
    # A crash while all is wrong, and the proof that the manager has really lived with the other clock.
    os.kill(stack.daemon("checked")["pid"], signal.SIGKILL)
    stack.until(lambda: (one := stack.daemon("checked"))["restarts"] == 1 and one["ready"], "the restart", 5.0)
    assert stack.run("down").returncode == 0
    stack.up("--no-wait")  # the state database and its times are read again, an hour away
    times = [
        datetime.fromisoformat(json.loads(line)["time"]).timestamp()
        for line in stack.run("events", "--json").stdout.splitlines()
    ]
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert min(steps) < -HOUR_S + 60
    assert max(steps) > HOUR_S * 2 - 60
    log = [json.loads(line) for line in stack.run("logs", "--json", "crashing").stdout.splitlines()]
    assert len(log) > 8
