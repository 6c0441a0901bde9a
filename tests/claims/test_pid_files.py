"""F012, F013: the PID file is right whenever it is there, and gone when the daemon is."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.claims.library import is_alive
from tests.harness import Stack

RESTARTS = 50

# Writes down its own process id, so that nobody's word but its own is compared.
SAYING = "echo $$$$ > own; exec sleep 1000"  # in duende.toml `$$` is a dollar sign


class Reader(threading.Thread):
    """Reads a PID file again and again, as fast as it can; keeps everything that it has ever seen."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.seen: set[bytes] = set()
        self.reads = 0
        self._halt = threading.Event()

    def run(self) -> None:
        while not self._halt.is_set():
            try:
                self.seen.add(self.path.read_bytes())
            except FileNotFoundError:
                self.seen.add(b"absent")
            self.reads += 1

    def stop(self) -> None:
        self._halt.set()
        self.join()


@pytest.mark.claim("F012")
def test_a_pid_file_is_written(stack: Stack, claim_figure) -> None:
    """Through many restarts, with a reader who looks all the time: he must find a whole number or nothing."""
    stack.write(f"""
[daemon.web]
command = ["sh", "-c", "{SAYING}"]
pid_file = "web.pid"
restart = {{ policy = "always", delay = "0s", max_delay = "0s" }}
""")
    path, own = stack.folder / "web.pid", stack.folder / "own"
    reader = Reader(path)
    reader.start()
    ids = set()
    try:
        stack.up()
        for n in range(RESTARTS):
            pid = stack.until(
                lambda: (
                    path.exists() and own.exists() and path.read_text() == own.read_text() and int(path.read_text())
                ),
                "its own process id",
            )
            assert pid not in ids
            ids.add(pid)
            assert Path(f"/proc/{pid}/comm").read_text().strip() in ("sleep", "sh")
            if n < RESTARTS - 1:
                own.unlink()
                os.kill(pid, signal.SIGKILL)
    finally:
        reader.stop()
    assert path.read_text() == f"{stack.daemon('web')['pid']}\n"
    assert {text for text in reader.seen if text != b"absent"} == {b"%d\n" % pid for pid in ids}
    assert sorted(entry.name for entry in stack.folder.iterdir()) == ["duende.toml", "own", "web.pid"]
    claim_figure("processes", len(ids), "")
    claim_figure("reads", reader.reads, "")


@pytest.mark.claim("F013")
def test_the_pid_file_goes_away(stack: Stack, claim_figure) -> None:
    """Stop, kill, crash, a start that fails, the stack's end, and a death that no manager saw."""
    stack.write("""
[daemon.web]
command = ["sleep", "1000"]
pid_file = "web.pid"
restart = "never"
""")
    path = stack.folder / "web.pid"
    stack.up()

    def runs() -> int:
        assert stack.run("start", "web").returncode == 0
        pid = int(path.read_text())
        assert is_alive(pid)
        return pid

    def is_gone(how: str) -> None:
        stack.until(lambda: not path.exists(), f"the end of the PID file after {how}")
        gone.append(how)

    gone: list[str] = []
    assert stack.run("stop", "web").returncode == 0
    is_gone("stop")
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM):
        os.kill(runs(), number)
        is_gone(number.name)
    runs()
    assert stack.run("signal", "KILL", "web").returncode == 0
    is_gone("duende signal")
    pid = runs()
    os.kill(stack.status()["manager"]["pid"], signal.SIGKILL)  # nobody is there to see the end
    stack.until(lambda: stack.run("status").returncode == 69, "the manager's end")
    os.kill(pid, signal.SIGKILL)
    stack.run("up", "-d", "--no-restarter")
    is_gone("a death without a manager")
    runs()
    assert stack.run("down").returncode == 0
    is_gone("down")
    claim_figure("kinds of end", len(gone), "")
    # A file that somebody else has put in its place meanwhile is not ours to remove.
    stack.up()
    path.write_text("1\n")
    assert stack.run("stop", "web").returncode == 0
    assert path.read_text() == "1\n"
