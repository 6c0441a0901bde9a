"""duende and its peers behind one small contract, so that each is asked the same question in the same way.

The peers (supervisord, circus) are installed into `.cache/peers` by the benchmark that first wants them. Each is
configured to be as quick as it can be: no start delay, no minimal run time, restarts without a limit.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import Stack

from bench.machine import ROOT

__all__ = [
    "PEERS",
    "Circus",
    "Duende",
    "Fifo",
    "Peer",
    "Supervisor",
    "Supervisord",
    "Unavailable",
    "clean_environment",
    "run_times_s",
    "started",
    "toml_argv",
]

PATIENCE_S = 120.0
_VENV = ROOT / ".cache" / "peers"
_RESTART = 'restart = { policy = "always", delay = "0s", reset_after = "0s" }'
_REQUIREMENTS = ("supervisor==4.3.0", "circus==0.19.0")


class Unavailable(Exception):
    """A peer that can't be had here, and why."""


class Supervisor(ABC):
    """Runs programs. `start` returns when they were asked for, not when they run: whoever wants to know uses a Fifo."""

    name: str

    @abstractmethod
    def start(self, programs: Mapping[str, Sequence[str]]) -> None:
        """Run each program and restart it without delay whenever it ends."""

    @abstractmethod
    def processes(self) -> dict[str, int]:
        """The supervisor's own processes: role to pid."""

    @abstractmethod
    def status_argv(self) -> list[str]:
        """The command that shows how the programs are."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What to run `status_argv` with."""

    @abstractmethod
    def stop(self) -> None:
        """End all of it."""


class Duende(Supervisor):
    """`duende up -d` in a folder of its own."""

    name = "duende"

    def __init__(self) -> None:
        self.stack = Stack()
        self.stack.env = clean_environment(self.stack.env)
        self._own: dict[str, int] = {}

    def start(self, programs: Mapping[str, Sequence[str]]) -> None:
        self.start_toml("".join(
            f"[daemon.{name}]\ncommand = {toml_argv(argv)}\n{_RESTART}\n"
            for name, argv in programs.items()
        ))  # fmt: skip

    def start_toml(self, toml: str) -> None:
        """As `start`, with a configuration of one's own."""
        self.stack.write(toml)
        done = self.stack.run("up", "-d", timeout_s=PATIENCE_S)
        if done.returncode != 0:
            raise RuntimeError(f"duende up failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def processes(self) -> dict[str, int]:
        manager = self.stack.status()["manager"]
        found = {"manager": manager["pid"], "keeper": manager["keeper_pid"]}
        with open(f"/proc/{manager['pid']}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
        if b"restarter.py" in Path(f"/proc/{parent}/cmdline").read_bytes():
            found["restarter"] = parent
        return found

    def status_argv(self) -> list[str]:
        # What the installed console script does, without asking that it is installed.
        entry = "from duende.cli.main import entry; entry()"
        return [sys.executable, "-c", entry, "-s", self.stack.name, "status"]

    def environment(self) -> dict[str, str]:
        return self.stack.env

    def stop(self) -> None:
        self.stack.run("-s", self.stack.name, "down", timeout_s=PATIENCE_S)
        self.stack.close()


class Peer(Supervisor):
    """What the peers share: a folder, one process of their own, an end by SIGTERM."""

    program: str

    def __init__(self) -> None:
        self.binary = _installed(self.program)
        self.folder = Path(tempfile.mkdtemp(prefix="duende-bench-"))
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def render(self, programs: Mapping[str, Sequence[str]]) -> str:
        """Its configuration."""

    @abstractmethod
    def argv(self, config: Path) -> list[str]:
        """How it is started in the foreground."""

    def start(self, programs: Mapping[str, Sequence[str]]) -> None:
        config = self.folder / "config"
        config.write_text(self.render(programs))
        with open(self.folder / "out", "wb") as out:
            self._process = subprocess.Popen(
                self.argv(config),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment(),
                cwd=self.folder,
            )

    def processes(self) -> dict[str, int]:
        assert self._process is not None
        return {self.program: self._process.pid}

    def environment(self) -> dict[str, str]:
        return clean_environment(os.environ)

    def stop(self) -> None:
        # Without asking: circusd takes a minute to end a hundred watchers, and nothing here needs an orderly end.
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]:
            if _is_in_folder(pid, self.folder):  # its programs and helpers all run in its folder
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Supervisord(Peer):
    """supervisord, by configuration file."""

    name = "supervisord"
    program = "supervisord"

    def render(self, programs: Mapping[str, Sequence[str]]) -> str:
        head = f"""[supervisord]
nodaemon=true
logfile={self.folder}/log
pidfile={self.folder}/pid
childlogdir={self.folder}
minfds=8192
[unix_http_server]
file={self.folder}/sock
[supervisorctl]
serverurl=unix://{self.folder}/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
        return head + "".join(
            f"[program:{name}]\ncommand={_quoted(argv)}\nstartsecs=0\nautorestart=true\nstdout_logfile_maxbytes=0\n"
            for name, argv in programs.items()
        )

    def argv(self, config: Path) -> list[str]:
        return [self.binary, "-c", str(config)]

    def status_argv(self) -> list[str]:
        return [str(Path(self.binary).with_name("supervisorctl")), "-c", str(self.folder / "config"), "status"]


class Circus(Peer):
    """circusd, one watcher per program, as one has for programs that differ."""

    name = "circus"
    program = "circusd"

    def render(self, programs: Mapping[str, Sequence[str]]) -> str:
        head = f"""[circus]
endpoint = ipc://{self.folder}/c
pubsub_endpoint = ipc://{self.folder}/p
check_delay = 0.5
warmup_delay = 0
"""
        return head + "".join(
            f"[watcher:{name}]\ncmd = {_quoted(argv)}\nwarmup_delay = 0\nmax_retry = -1\n"
            f"stdout_stream.class = FileStream\nstdout_stream.filename = {self.folder}/{name}.log\n"
            for name, argv in programs.items()
        )

    def argv(self, config: Path) -> list[str]:
        return [self.binary, str(config)]

    def status_argv(self) -> list[str]:
        return [str(Path(self.binary).with_name("circusctl")), "--endpoint", f"ipc://{self.folder}/c", "status"]


PEERS: tuple[type[Peer], ...] = (Supervisord, Circus)


class Fifo:
    """Programs write a line into it as their first act, so that all supervisors are timed by the same event."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="duende-bench-"))
        self.path = self.folder / "fifo"
        os.mkfifo(self.path)
        # Open for reading and writing: it never ends, and its writers never wait for a reader.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def teller(self) -> list[str]:
        """A program that writes its pid and then does nothing. `exec` keeps the pid."""
        return ["/bin/sh", "-c", f"echo $$ > {self.path}; exec sleep 1000000"]

    def read(self, count: int, patience_s: float = PATIENCE_S) -> list[tuple[float, str]]:
        """The next `count` lines, each with the monotonic time when it was seen."""
        found: list[tuple[float, str]] = []
        deadline_s = time.monotonic() + patience_s
        while len(found) < count:
            if not select.select([self._fd], [], [], max(deadline_s - time.monotonic(), 0.0))[0]:
                raise TimeoutError(f"{len(found)} of {count} lines came within {patience_s:g} s")
            now_s = time.monotonic()
            *lines, self._rest = (self._rest + os.read(self._fd, 65536)).split(b"\n")
            found += [(now_s, line.decode()) for line in lines]
        return found

    def close(self) -> None:
        """Remove it."""
        os.close(self._fd)
        shutil.rmtree(self.folder)


@contextmanager
def started(kind: type[Supervisor], programs: Mapping[str, Sequence[str]]) -> Iterator[Supervisor]:
    """A supervisor with its programs; Unavailable when it can't be had."""
    supervisor = kind()
    try:
        supervisor.start(programs)
        yield supervisor
    finally:
        supervisor.stop()


def toml_argv(argv: Sequence[str]) -> str:
    """A command for a duende.toml; `$` would name a variable there."""
    return json.dumps([word.replace("$", "$$") for word in argv])


def clean_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Without what would make every interpreter compile its modules again, or not be itself."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONDEVMODE", "PYTHONPROFILEIMPORTTIME")
    return {key: value for key, value in base.items() if key not in dropped}


def _installed(program: str) -> str:
    binary = _VENV / "bin" / program
    if not binary.exists():
        try:
            venv.create(_VENV, with_pip=True)
            pip: list[str] = [
                str(_VENV / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
            ]
            done = subprocess.run([*pip, *_REQUIREMENTS], capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"cannot install {program}: {error}") from error
        if done.returncode != 0 or not binary.exists():
            raise Unavailable(
                f"cannot install {program}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
            )
    return str(binary)


def _quoted(argv: Sequence[str]) -> str:
    """For configuration files that split like a shell; single quotes keep $ and ; as they are."""
    if any("'" in word or "%" in word for word in argv):
        raise ValueError(f"a benchmark's program must not use quotes or per cent signs: {argv}")
    return " ".join(f"'{word}'" if any(sign in word for sign in " $;>") else word for word in argv)


def _is_in_folder(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    except OSError:
        return False


def run_times_s(argv: Sequence[str], environment: Mapping[str, str], count: int) -> list[float]:
    """Whole-process times of a command, in seconds; each run must succeed."""
    times: list[float] = []
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for n in range(count + 1):
        start_s = time.perf_counter()
        # No timeout: `subprocess` would then poll, at intervals as long as what is measured.
        subprocess.run(argv, env=dict(environment), check=True, **options)
        if n:  # the first one warms the page cache and writes byte code
            times.append(time.perf_counter() - start_s)
    return times
