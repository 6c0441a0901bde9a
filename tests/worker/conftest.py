"""Real instances for the worker's tests: executed afresh (cold) or forked from a zygote (warm)."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duende.keeper.wire import Channel

SRC = str(Path(__file__).resolve().parents[2] / "src")
PATIENCE_S = 20.0  # how long a test waits for what must come; a loaded machine is slow
_PR_SET_CHILD_SUBREAPER = 36


class Instance:
    """One worker process and our ends of its pipes and its control socket."""

    def __init__(self, pid: int, stdout: int, stderr: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self._fds = {"stdout": stdout, "stderr": stderr}
        self._text = {"stdout": b"", "stderr": b""}
        self._code: int | None = None
        self._n = 0
        control.settimeout(PATIENCE_S)

    @property
    def stdout(self) -> str:
        return self._text["stdout"].decode()

    @property
    def stderr(self) -> str:
        return self._text["stderr"].decode()

    def until(self, text: str, stream: str = "stdout") -> str:
        """Read the stream until `text` has come."""
        deadline_s = time.monotonic() + PATIENCE_S
        while text.encode() not in self._text[stream]:
            assert self._read(stream, deadline_s), f"{text!r} never came: {self.stdout!r} {self.stderr!r}"
        return self._text[stream].decode()

    def event(self, name: str) -> dict[str, Any]:
        """The next control message, which must be this event."""
        message = self.message()
        assert message.get("ev") == name, f"{message} {self.stderr}"
        return message

    def message(self) -> dict[str, Any]:
        data = self.control.recv(65536)
        assert data, "the worker has closed its control socket"
        message: dict[str, Any] = json.loads(data)
        return message

    def ask(self, op: str) -> dict[str, Any]:
        self._n += 1
        self.control.send(json.dumps({"op": op, "n": self._n}).encode())
        answer = self.message()
        assert answer.pop("n") == self._n
        return answer

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Read all output and return the exit code, or minus the killing signal."""
        if self._code is None:
            pidfd = os.pidfd_open(self.pid)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            ended = poll.poll(PATIENCE_S * 1000)
            os.close(pidfd)
            assert ended, f"it does not end: {self.stdout!r} {self.stderr!r}"
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            for stream in self._fds:
                while self._read(stream, time.monotonic() + 0.0):
                    pass
        return self._code

    def close(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.control.close()
        for fd in self._fds.values():
            os.close(fd)

    def _read(self, stream: str, deadline_s: float) -> bool:
        poll = select.poll()
        poll.register(self._fds[stream], select.POLLIN)
        if not poll.poll(max(deadline_s - time.monotonic(), 0.0) * 1000):
            return False
        data = os.read(self._fds[stream], 65536)
        self._text[stream] += data
        return bool(data)


class Zygote:
    """A real zygote, with this process as the subreaper that the keeper is otherwise."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        env = {**os.environ, "PYTHONPATH": SRC, "DUENDE_ZYGOTE_FD": str(far.fileno())}
        argv = [sys.executable, "-m", "duende.worker.zygote"]
        self.process = subprocess.Popen(argv, env=env, pass_fds=(far.fileno(),))
        far.close()
        self.channel = Channel(near)
        self._n = 0

    def fork(self, spec: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Ask for an instance; the descriptors are closed here."""
        self._n += 1
        self.channel.send({"op": "fork", "n": self._n, "spec": spec}, fds)
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while poll.poll(PATIENCE_S * 1000):
            for message, _ in self.channel.receive():
                assert message["n"] == self._n
                return message
        raise AssertionError("the zygote does not answer")

    def close(self) -> None:
        self.channel.close()
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    zygote = Zygote()
    yield zygote
    zygote.close()
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def worker_json(target: str, **more: Any) -> dict[str, Any]:
    return {
        "target": target,
        "name": "web",
        "settings": {},
        "config": {},
        "shutdown_timeout_s": 10.0,
        "sys_path": [],
        **more,
    }


def start_cold(worker: dict[str, Any], env: dict[str, str]) -> Instance:
    memfd = os.memfd_create("spec")
    os.write(memfd, json.dumps(worker).encode())
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    full = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, **env}
    full |= {"DUENDE_WORKER_SPEC_FD": str(memfd), "DUENDE_CONTROL_FD": str(far.fileno())}
    argv = [sys.executable, "-m", "duende.worker"]
    process = subprocess.Popen(argv, env=full, stdout=out_w, stderr=err_w, pass_fds=(memfd, far.fileno()))
    for fd in (memfd, out_w, err_w):
        os.close(fd)
    far.close()
    process.returncode = 0  # Instance reaps it by its process id
    return Instance(process.pid, out_r, err_r, near)


def start_warm(zygote: Zygote, worker: dict[str, Any], env: dict[str, str], **spec: Any) -> Instance:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    status_r, status_w = os.pipe()
    full = {"PATH": os.environ["PATH"], **env}
    request = {"env": full, "memfiles": {"DUENDE_WORKER_SPEC_FD": json.dumps(worker)}, **spec}
    answer = zygote.fork(request, [out_w, err_w, status_w, far.detach()])
    with os.fdopen(status_r, "rb") as status:
        words = [json.loads(line) for line in status.read().splitlines()]  # ends when it is executed
    assert words == [{"pid": answer["pid"]}], words
    return Instance(answer["pid"], out_r, err_r, near)


Start = Callable[..., Instance]


@pytest.fixture(params=["cold", "warm"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """start(source, cls="D", **worker): write a script that imports duende, run its class, get the `Instance`."""
    instances: list[Instance] = []

    def start(source: str, cls: str = "D", *, env: dict[str, str] | None = None, **worker: Any) -> Instance:
        script = tmp_path / "script.py"
        script.write_text(f"import asyncio, os, signal, sys, threading, time\nimport duende\n{source}")
        told = worker_json(worker.pop("target", f"{script}:{cls}"), **worker)
        if request.param == "cold":
            instance = start_cold(told, env or {})
        else:
            instance = start_warm(request.getfixturevalue("zygote"), told, env or {})
        instances.append(instance)
        return instance

    yield start
    for instance in instances:
        instance.close()
