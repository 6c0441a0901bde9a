"""F103: a manager that runs out of file descriptors says so, crashes nowhere, and goes on when it has some again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import DUENDE, Stack

LIMIT = 64  # hard, so that keeper and manager can't raise it; a manager with three daemons needs about 30
PATIENCE_S = 20.0


def alerts(stack: Stack) -> list[str]:
    """What was told so far, read from the events after all is over."""
    events = [json.loads(line) for line in stack.run("events", "--json").stdout.splitlines()]
    return [f"{event['kind']}: {event['message']}" for event in events if event["kind"].startswith("alert")]


@pytest.mark.claim("F103")
def test_out_of_file_descriptors(stack: Stack, claim_figure) -> None:
    """All taken by clients of the API while daemons crash and must be started again; then by the daemons themselves."""
    stack.file("web.py", "from duende import Daemon\nclass Web(Daemon):\n"
               "    async def run(self, ctx):\n        await ctx.wait_shutdown()\n")  # fmt: skip
    restart = 'restart = { policy = "always", delay = "100ms", max_delay = "500ms" }'
    stack.write(f"""
[daemon.command]
command = ["sh", "-c", "while :; do echo x; sleep 0.1; done"]
{restart}
[daemon.class]
daemon = "web:Web"
{restart}
[daemon.many]
command = ["sleep", "1000"]
replicas = 40
autostart = false
{restart}
""")
    with (stack.root / "stderr").open("wb") as stderr:
        manager = subprocess.Popen(
            ["prlimit", f"--nofile={LIMIT}:{LIMIT}", *DUENDE, "up", "command", "class"], cwd=stack.folder,
            env=stack.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    stack.processes.append(manager)
    path = stack.runtime / stack.name / "duende.sock"
    stack.until(path.exists, "the socket")
    stack.until(lambda: stack.daemon("class")["ready"] and stack.daemon("command")["ready"], "the daemons")
    before = stack.status()
    keeper = before["manager"]["keeper_pid"]

    # Clients who say nothing take every descriptor; while that is so, both daemons are killed.
    clients = []
    for _ in range(LIMIT * 2):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:
            client.close()
            break
        clients.append(client)
    fds = Path(f"/proc/{manager.pid}/fd")
    stack.until(lambda: len(list(fds.iterdir())) >= LIMIT - 1, "the last descriptor")
    pids = [one["pid"] for one in before["daemons"] if one["pid"]]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    time.sleep(3.0)  # of misery: several tries of each, none of which can work
    assert manager.poll() is None
    assert Path(f"/proc/{keeper}").exists()
    for client in clients:
        client.close()
    began_s = time.monotonic()
    stack.until(lambda: stack.run("status").returncode == 0, "an answer", PATIENCE_S)
    for name in ("command", "class"):
        stack.until(lambda name=name: (one := stack.daemon(name))["ready"] and one["pid"] not in pids, name, PATIENCE_S)
    claim_figure("all well again after", time.monotonic() - began_s, "s")
    told = alerts(stack)
    assert any("descriptors" in text or "Too many open files" in text for text in told if text.startswith("alert:")), (
        told
    )

    # Too many daemons for the descriptors: those that fit run, the others are told why and tried again.
    stack.run("start", "many", "--timeout", "5s")
    daemons = stack.status()["daemons"]
    late = [one for one in daemons if one["name"].startswith("many") and one["status"] == "backoff"]
    assert late
    # Which descriptor it was that could not be had, theirs or that of the connection to the keeper, is told too.
    reasons = ("Too many open files", "no descriptor is free", "keeper")
    assert all(any(reason in one["message"] for reason in reasons) for one in late), late
    assert [one["status"] for one in daemons if one["name"] in ("command", "class")] == ["running", "running"]
    assert stack.run("stop", "many.*", "--timeout", "15s").returncode == 0
    # The answers of many starts may have cost the connection to the keeper: a new one comes by itself.
    stack.until(lambda: stack.run("restart", "command", "class").returncode == 0, "the restart", PATIENCE_S)
    assert stack.status()["manager"]["pid"] == manager.pid
    assert "Traceback" not in (stack.root / "stderr").read_text()
    assert stack.run("down").returncode == 0
    assert manager.wait(PATIENCE_S) == 0
