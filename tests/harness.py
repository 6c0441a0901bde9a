"""A stack for a test: its own folders, its own manager, run through the real CLI, and ended by process id whatever
happens.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DUENDE = [sys.executable, "-m", "duende"]
_numbers = itertools.count(1)
PATIENCE_S = 30.0  # for what should take milliseconds; a busy machine may take long, a hang must still end


class Cli(subprocess.CompletedProcess):  # type: ignore[type-arg]
    """A finished command line."""

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Stack:
    """One stack in a temporary folder. `run` runs a verb; `up`, `down`, `status` are short for the common ones."""

    def __init__(self, toml: str = "", name: str = "") -> None:
        # A short path: a Unix socket's is limited to 107 bytes.
        self.root = Path(tempfile.mkdtemp(prefix=f"dt-{os.getpid()}-"))
        self.name = name or f"t{os.getpid()}-{next(_numbers)}"
        self.folder = self.root / self.name
        self.folder.mkdir()
        self.runtime = self.root / "r"
        self.state = self.root / "s"
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DUENDE_")},
            "DUENDE_RUNTIME_DIR": str(self.runtime), "DUENDE_STATE_DIR": str(self.state), "NO_COLOR": "1",
            "TEST_STACK": str(self.root),  # daemons do not inherit DUENDE_*, but they do this
        }  # fmt: skip
        self.processes: list[subprocess.Popen[Any]] = []
        self.write(toml)

    def write(self, toml: str) -> Path:
        """Replace the configuration."""
        path = self.folder / "duende.toml"
        path.write_text(toml)
        return path

    def file(self, name: str, text: str) -> Path:
        """Put a file beside the configuration."""
        path = self.folder / name
        path.write_text(text)
        return path

    def run(
        self, *argv: str, timeout_s: float = PATIENCE_S, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> Cli:
        """Run `duende argv…` and wait for it."""
        done = subprocess.run(
            [*DUENDE, *argv], cwd=cwd or self.folder, env={**self.env, **(env or {})}, capture_output=True, text=True,
            timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Cli(done.args, done.returncode, done.stdout, done.stderr)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start `duende argv…`; it is ended with the stack."""
        options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "stdin": subprocess.DEVNULL,
            **options,
        }
        process = subprocess.Popen([*DUENDE, *argv], cwd=self.folder, env=self.env, **options)
        self.processes.append(process)
        return process

    def up(self, *argv: str) -> Cli:
        """`duende up -d`, and it must work; without a restarter, so that a manager that a test kills stays dead."""
        done = self.run("up", "-d", "--no-restarter", *argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any]:
        """`duende status --json`."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = done.json
        return found

    def daemon(self, name: str) -> dict[str, Any]:
        """One daemon of the status."""
        return next(one for one in self.status()["daemons"] if one["name"] == name)

    def until(self, condition: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S) -> Any:
        """Ask again and again: for what gives no event across processes. Fails with `what` when it never comes."""
        deadline_s = time.monotonic() + patience_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline_s:
                raise AssertionError(f"never came: {what}")
            time.sleep(0.02)

    def log(self, name: str) -> list[str]:
        """What a daemon wrote."""
        return self.run("logs", "--no-prefix", name).stdout.splitlines()

    def our_processes(self) -> list[int]:
        """Every process that has this stack's runtime folder in its environment or command line."""
        found = []
        needle = os.fsencode(str(self.root))
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                for file in ("environ", "cmdline"):
                    try:
                        if needle in Path(f"/proc/{entry}/{file}").read_bytes():
                            found.append(int(entry))
                            break
                    except OSError:
                        continue
        return found

    def close(self) -> None:
        """End everything: first in order, then what is left, by process id."""
        if (self.runtime / self.name / "duende.sock").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):  # what is left is killed below
                self.run("-s", self.name, "down")
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        left = self.our_processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.until(lambda: not self.our_processes(), "the end of all processes")
        remove_cgroups(f"duende-{self.name}")
        shutil.rmtree(self.root, ignore_errors=True)


def remove_cgroups(name: str) -> None:
    """End and remove what a killed manager left of its stack's cgroups; a process that dies is gone in a moment."""
    deadline_s = time.monotonic() + 5.0
    while _remove_cgroups_once(name) and time.monotonic() < deadline_s:
        time.sleep(0.02)


def _remove_cgroups_once(name: str) -> bool:
    """Whether something is left."""
    left = False
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        for folder in folders:
            if folder.startswith(f"{name}."):
                for inner, _, files in os.walk(os.path.join(top, folder), topdown=False):
                    if "cgroup.kill" in files:
                        Path(inner, "cgroup.kill").write_text("1")
                    try:
                        os.rmdir(inner)
                    except OSError:
                        left = True
    return left


def free_port() -> int:
    """A TCP port on loopback that was free just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
