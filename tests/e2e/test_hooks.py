"""Hooks with a real manager, real daemons and a real receiver, also when the manager is killed before it delivers."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Stack, free_port


class Pager:
    """Somebody's pager: keeps what it was sent. `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 204
        self.had: list[dict[str, Any]] = []
        self.refused = threading.Event()
        pager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if pager.status == 204:
                    pager.had.append(event)
                else:
                    pager.refused.set()
                self.send_response(pager.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Not on the terminal."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def told(self) -> list[tuple[str, str]]:
        return [(event["daemon"], event["kind"]) for event in self.had]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def pager() -> Iterator[Pager]:
    made = Pager()
    yield made
    made.close()


# Fails while there is a file `broken`.
FLAKY = """
[daemon.flaky]
command = ["sh", "-c", "test -e broken && { sleep 0.05; exit 3; }; exec sleep 1000"]
restart = { max_retries = 2, delay = "50ms", multiplier = 1.0, reset_after = "500ms" }
"""
HOOK = """
[[hook]]
name = "pager"
on = ["failed", "recovered", "crash-loop"]
webhook = "%s"
"""


def kill_manager(stack: Stack) -> None:
    pid = stack.status()["manager"]["pid"]
    os.kill(pid, signal.SIGKILL)
    stack.until(lambda: stack.run("status").returncode == 69, "the manager's death")


def test_the_pager_hears_of_the_end_of_all_retries_and_of_the_recovery(stack: Stack, pager: Pager) -> None:
    broken = stack.file("broken", "")
    stack.write(FLAKY + HOOK % pager.url)
    stack.run("up", "-d", "--no-restarter")
    stack.until(pager.told, "the page")
    assert pager.told() == [("flaky", "failed")]
    assert pager.had[0]["message"] == "exited with code 3; not started again: max retries"
    broken.unlink()
    assert stack.run("start", "flaky").returncode == 0
    stack.until(lambda: len(pager.had) > 1, "the recovery")
    assert pager.told() == [("flaky", "failed"), ("flaky", "recovered")]
    (one,) = stack.run("--json", "hooks").json["hooks"]
    assert (one["delivered"], one["undelivered"], one["failing"]) == (2, 0, False)


def test_a_manager_killed_between_the_event_and_its_delivery(stack: Stack, pager: Pager) -> None:
    pager.status = 503
    stack.file("broken", "")
    stack.write(FLAKY + HOOK % pager.url)
    stack.run("up", "-d", "--no-restarter")
    assert pager.refused.wait(30.0)
    kill_manager(stack)
    pager.status = 204
    stack.run("up", "-d", "--no-restarter", "--no-wait")  # its code tells of the failed daemon
    stack.until(pager.told, "the page from the next manager")
    stack.until(lambda: stack.run("--json", "hooks").json["hooks"][0]["undelivered"] == 0, "the end of the queue")
    kill_manager(stack)
    stack.run("up", "-d", "--no-restarter", "--no-wait")  # its code tells of the failed daemon
    assert stack.run("hooks", "test", "pager").stdout == "pager  ok  HTTP status 204\n"
    assert pager.told() == [("flaky", "failed"), ("", "test")], "once: it was on record as delivered"
    assert len({event["id"] for event in pager.had}) == 2


def test_a_dead_endpoint_is_shown_and_holds_up_nothing(stack: Stack) -> None:
    url = f"http://127.0.0.1:{free_port()}/token"
    ends = """
[daemon.other]
command = ["sleep", "1000"]
[[hook]]
name = "writer"
on = ["failed"]
command = ["sh", "-c", "cat >> told; echo written"]
"""
    stack.file("broken", "")
    stack.write(FLAKY + ends + HOOK % url)
    stack.run("up", "-d", "--no-restarter", "--no-wait")
    told = stack.folder / "told"
    stack.until(lambda: told.exists() and told.read_text(), "the other hook")
    assert json.loads(told.read_text())["daemon"] == "flaky"
    text = stack.until(
        lambda: next((line for line in stack.run("status").stdout.splitlines() if "is failing" in line), ""), "the word"
    )
    assert text.startswith(f"hook pager is failing: {url.removesuffix('token')}…: ")
    assert "1 undelivered" in text
    assert "hook pager: event" in stack.run("events").stdout
    failed = stack.run("hooks", "test", "pager")
    assert (failed.returncode, "token" in failed.stdout) == (1, False)
    assert stack.run("hooks", "test", "pagre").returncode == 1
    assert stack.run("restart", "other").returncode == 0
    log = (stack.state / stack.name / "manager.log").read_text()
    assert "hook writer: written" in log
    assert stack.run("down").returncode == 0


def test_on_failure_starts_a_daemon_and_runs_a_command_once(stack: Stack) -> None:
    stack.file("broken", "")
    medic = """
on_failure = "medic"
[daemon.medic]
command = ["sh", "-c", "echo treated >> treated"]
autostart = false
restart = "never"
[daemon.second]
command = ["sh", "-c", "exit 4"]
restart = { max_retries = 1, delay = "10ms" }
on_failure = { command = ["sh", "-c", "echo $DUENDE_EVENT_DAEMON $DUENDE_EVENT_KIND >> ran"] }
"""
    flaky, restart = FLAKY.rsplit("restart", 1)
    stack.write(flaky + "restart" + restart + medic)
    stack.run("up", "-d", "--no-restarter", "--no-wait")
    for name in ("treated", "ran"):
        stack.until((stack.folder / name).exists, name)
    stack.until(lambda: stack.daemon("flaky")["status"] == "failed", "the end of retries")
    kill_manager(stack)
    stack.run("up", "-d", "--no-restarter", "--no-wait")  # its code tells of the failed daemon
    events = [json.loads(line) for line in stack.run("--json", "events").stdout.splitlines()]
    assert [event["daemon"] for event in events if event["kind"] == "asked"] == ["medic"]
    assert Path(stack.folder / "treated").read_text() == "treated\n"
    assert Path(stack.folder / "ran").read_text() == "second failed\n"
