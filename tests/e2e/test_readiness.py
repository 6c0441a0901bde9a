"""Every kind of readiness, probe and watchdog once with real processes, also over the death of the manager."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.harness import Stack

SAY = """
import os, socket, sys, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)
"""


def until_status(stack: Stack, name: str, **wanted: Any) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        one = stack.daemon(name)
        return one if all(one[key] == value for key, value in wanted.items()) else None

    found: dict[str, Any] = stack.until(find, f"{name} with {wanted}")
    return found


def kill_manager(stack: Stack) -> None:
    os.kill(stack.status()["manager"]["pid"], signal.SIGKILL)
    stack.until(lambda: stack.run("status").returncode == 69, "the manager's end")


def test_ready_by_a_descriptor(stack: Stack) -> None:
    stack.write("""
[daemon.a]
command = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done; echo >&7; exec sleep 1000"]
ready = { fd = 7 }
""")
    _up_in_background(stack)
    until_status(stack, "a", status="starting")
    kill_manager(stack)
    stack.file("go", "")
    stack.up()
    assert until_status(stack, "a", status="running", ready=True)["restarts"] == 0


def _up_in_background(stack: Stack) -> None:
    """`up -d` waits until all are ready."""
    stack.popen("up", "-d", "--no-restarter")
    stack.until(lambda: stack.run("status").returncode != 69, "a manager")


def test_ready_by_a_line_of_either_stream_also_while_nobody_listens(stack: Stack) -> None:
    wait = "until [ -e go ]; do sleep 0.02; done"
    stack.write(f"""
[daemon.out]
command = ["sh", "-c", "{wait}; echo now listening on 1; exec sleep 1000"]
ready = {{ log = "^now listening on [0-9]+$" }}
[daemon.err]
command = ["sh", "-c", "{wait}; printf now >&2; sleep 0.2; echo ' listening' >&2; exec sleep 1000"]
ready = {{ log = "now listening" }}
log = {{ format = "json" }}
[daemon.never]
command = ["sh", "-c", "echo not listening; exec sleep 1000"]
ready = {{ log = "^listening" }}
log = {{ format = "raw" }}
""")
    _up_in_background(stack)
    for name in ("out", "err", "never"):
        until_status(stack, name, status="starting")
    kill_manager(stack)
    stack.file("go", "")
    stack.popen("up", "-d", "--no-restarter")
    stack.until(lambda: stack.run("status").returncode != 69, "a manager")
    for name in ("out", "err"):
        assert until_status(stack, name, status="running")["restarts"] == 0
    assert stack.daemon("never")["status"] == "starting"


def test_a_line_that_an_earlier_manager_has_moved_and_not_told_of_counts(stack: Stack) -> None:
    """It was killed in between: made here by a configuration that only then asks for the line."""
    command = "command = ['sh', '-c', 'echo so I am ready; exec sleep 1000']\n"
    stack.write(f"[daemon.a]\n{command}ready = {{ log = 'something else' }}\n")
    _up_in_background(stack)
    stack.until(lambda: stack.log("a") == ["so I am ready"], "the line")
    kill_manager(stack)
    stack.write(f"[daemon.a]\n{command}ready = {{ log = 'so I am ready' }}\n")
    stack.up()
    assert until_status(stack, "a", status="running")["restarts"] == 0


def test_probes_apart_with_real_commands_and_sockets(stack: Stack) -> None:
    name = f"@{stack.name}"
    stack.file("serve.py", f"""
import os, socket, time
while not os.path.exists("started"):
    time.sleep(0.01)
with socket.socket(socket.AF_UNIX) as sock:
    sock.bind({chr(0) + name[1:]!r})
    sock.listen()
    while True:
        sock.accept()[0].close()
""")  # fmt: skip
    stack.write(f"""
[daemon.a]
command = [{sys.executable!r}, "serve.py"]
restart = {{ delay = "0s" }}
[daemon.a.probe.startup]
unix = "{name}"
interval = "20ms"
[daemon.a.probe.readiness]
exec = ["test", "!", "-e", "busy"]
interval = "20ms"
[daemon.a.probe.liveness]
exec = ["test", "!", "-e", "ill"]
interval = "50ms"
""")
    stack.file("ill", "")
    _up_in_background(stack)
    until_status(stack, "a", status="starting")
    stack.until(lambda: "startup probe: " in stack.daemon("a")["message"], "why it is not ready")
    time.sleep(0.5)  # ten times what liveness would need to have it restarted: it must not be asked
    assert stack.daemon("a")["restarts"] == 0
    (stack.folder / "ill").unlink()
    stack.file("started", "")
    pid = until_status(stack, "a", status="running", ready=True)["pid"]
    stack.file("busy", "")
    until_status(stack, "a", status="running", ready=False)
    (stack.folder / "busy").unlink()
    assert until_status(stack, "a", ready=True)["pid"] == pid
    stack.file("ill", "")
    stack.until(lambda: stack.daemon("a")["restarts"] > 0, "the restart")
    (stack.folder / "ill").unlink()
    one = until_status(stack, "a", status="running", ready=True)
    assert one["exit"]["message"].startswith("unhealthy: test exited with 1")


def test_a_probe_that_hangs_ends_with_its_whole_tree_and_never_piles_up(stack: Stack) -> None:
    probe = "echo $$ >> started; setsid sleep 12345 & sleep 12345"
    stack.write(f"""
[daemon.a]
command = ["sleep", "1000"]
health_check = {{ exec = ["sh", "-c", "{probe}"], interval = "50ms", timeout = "300ms" }}
""")
    stack.up()
    started = stack.folder / "started"
    stack.until(lambda: started.exists() and len(started.read_text().split()) >= 4, "four probes")
    sleeping = [
        pid for pid in stack.our_processes()
        if b"12345" in _read(f"/proc/{pid}/cmdline") and b"sh" not in _read(f"/proc/{pid}/cmdline").split(b"\0")[0]
    ]  # fmt: skip
    assert len(sleeping) <= 2, sleeping  # of the one that runs just now
    stack.run("stop", "a")
    stack.until(lambda: not any(b"12345" in _read(f"/proc/{pid}/cmdline") for pid in stack.our_processes()), "the end")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def test_health_by_the_age_of_the_last_line(stack: Stack) -> None:
    stack.write("""
[daemon.a]
command = ["sh", "-c", "until [ -e quiet ]; do echo x; sleep 0.05; done; exec sleep 1000"]
health_check = { log_age = "1s", interval = "100ms", retries = 1, restart = true }
restart = { delay = "0s" }
""")
    stack.up()
    time.sleep(1.5)  # longer than it may be silent
    assert stack.daemon("a")["restarts"] == 0
    stack.file("quiet", "")
    one = stack.until(lambda: (found := stack.daemon("a"))["restarts"] and found, "the restart")
    assert "no output for" in one["exit"]["message"]


def test_the_watchdog_of_a_command(stack: Stack) -> None:
    stack.file("watched.py", SAY + """
assert os.environ["WATCHDOG_PID"] == str(os.getpid()), os.environ
every_s = int(os.environ["WATCHDOG_USEC"]) / 1e6 / 4
print(os.environ["WATCHDOG_USEC"], flush=True)
say("READY=1")
while not os.path.exists("hang"):
    say("WATCHDOG=1")
    time.sleep(every_s)
print("hangs", flush=True)
time.sleep(1000)
""")  # fmt: skip
    stack.write(f"""
[daemon.a]
command = [{sys.executable!r}, "watched.py"]
ready = "notify"
watchdog = "1s"
restart = {{ delay = "0s" }}
""")
    stack.up()
    pid = stack.daemon("a")["pid"]
    assert stack.log("a") == ["1000000"]
    manager = stack.status()["manager"]["pid"]
    os.kill(manager, signal.SIGSTOP)
    time.sleep(3)  # three times what the daemon may be silent: it is not, it is the manager who does not listen
    os.kill(manager, signal.SIGCONT)
    time.sleep(2)
    assert stack.daemon("a")["pid"] == pid
    kill_manager(stack)
    time.sleep(2)
    stack.up()
    time.sleep(1.5)
    assert stack.daemon("a")["pid"] == pid
    stack.file("hang", "")
    one = stack.until(lambda: (found := stack.daemon("a"))["restarts"] and found, "the restart")
    assert one["exit"]["message"].startswith("unhealthy: no sign of life (WATCHDOG=1) for 1 s")


def test_the_watchdog_of_a_class_follows_its_health_check(stack: Stack) -> None:
    stack.file("web.py", """
import os, time
import duende
class Web(duende.Daemon):
    name = "web"
    async def run(self, ctx):
        import asyncio
        while not ctx.should_shutdown:
            await asyncio.sleep(0.05)
            if os.path.exists("hang"):
                time.sleep(1000)
    def health_check(self):
        ill = os.path.exists("ill")
        return duende.HealthStatus.unhealthy("planted") if ill else duende.HealthStatus.healthy()
    def metrics(self):
        return {}
    async def init(self, config):
        pass
    async def shutdown(self, timeout):
        pass
""")  # fmt: skip
    stack.write("""
[daemon.a]
daemon = "web.py:Web"
watchdog = "1s"
health_check = { interval = "20ms", timeout = "10s", retries = 1000000 }
shutdown_timeout = "1s"
restart = { delay = "0s" }
""")
    stack.up()
    time.sleep(2.5)
    one = stack.daemon("a")
    assert (one["restarts"], one["health"]["healthy"]) == (0, True)
    stack.file("ill", "")
    one = stack.until(lambda: (found := stack.daemon("a"))["restarts"] == 1 and found, "the restart")
    assert one["exit"]["message"].startswith("unhealthy: no sign of life")
    (stack.folder / "ill").unlink()
    until_status(stack, "a", status="running", ready=True)
    stack.file("hang", "")  # its loop stands still: nobody asks `health_check` any more
    stack.until(lambda: stack.daemon("a")["restarts"] >= 2, "the second restart")


def test_more_time_for_the_start_when_the_daemon_asks_for_it(stack: Stack) -> None:
    stack.file("slow.py", SAY + """
for _ in range(4):
    say("EXTEND_TIMEOUT_USEC=1000000")
    time.sleep(0.5)
say("READY=1")
time.sleep(1000)
""")  # fmt: skip
    stack.write(f"""
[daemon.a]
command = [{sys.executable!r}, "slow.py"]
ready = "notify"
start_timeout = "700ms"
""")
    stack.up()
    assert stack.daemon("a")["restarts"] == 0
    assert "start-timeout" not in stack.run("events").stdout
