"""What the tests of the logs share: pipes with a pump at their end, and real writers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import duende
from duende.config.daemon import LogConfig
from duende.runtime.logs import LogPump, LogStore

TIMEOUT_S = 60.0  # how long a test waits for what must come

# Writes numbered lines of differing lengths as fast as it can, in writes that tear them anywhere.
_FLOOD = """
import os, sys
count, first = int(sys.argv[1]), int(sys.argv[2])
data = b"".join(b"%08d %s\\n" % (n, b"x" * (n * 7919 % 190)) for n in range(first, first + count))
view, at, step = memoryview(data), 0, 1
while at < len(data):
    step = step * 31 % 65521 + 1
    at += os.write(1, view[at:at + step])
"""


def flood_line(number: int) -> bytes:
    """What the flooding writer writes."""
    return b"%08d %s" % (number, b"x" * (number * 7919 % 190))


def child_environment() -> dict[str, str]:
    """For children that import duende from where we have it."""
    return {**os.environ, "PYTHONPATH": str(Path(duende.__file__).parent.parent)}


def start_flood(stdout: int, lines: int, first: int = 0) -> subprocess.Popen[bytes]:
    """A real process that writes `lines` numbered lines to `stdout`."""
    return subprocess.Popen([sys.executable, "-S", "-c", _FLOOD, str(lines), str(first)], stdout=stdout)


class Bench:
    """A log directory with a pump, and what is to be cleaned up."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.alerts: list[tuple[str, str]] = []
        self.cleared: list[str] = []
        self.on_alert: Callable[[str, str], None] = lambda daemon, message: self.alerts.append((daemon, message))
        self.on_cleared: Callable[[str], None] = self.cleared.append
        self._fds: list[int] = []
        self._pumps: list[LogPump] = []
        self.pump = self.new_pump()

    def new_pump(self, **options: Callable[[], int]) -> LogPump:
        self.pump = LogPump(
            self.log_dir,
            on_alert=lambda daemon, message: self.on_alert(daemon, message),
            on_alert_cleared=lambda daemon: self.on_cleared(daemon),
            **options,
        )
        self.pump.start()
        self._pumps.append(self.pump)
        return self.pump

    def pipe(self) -> tuple[int, int]:
        """Both ends; ours to close at the end of the test."""
        ends = os.pipe()
        self._fds += ends
        return ends

    def close_fd(self, fd: int) -> None:
        self._fds.remove(fd)
        os.close(fd)

    def attach(
        self, read: int, config: LogConfig, *, daemon: str = "web", instance: int = 1, stream: str = "stdout"
    ) -> None:
        """Attach a copy, as the manager does: the keeper's descriptor stays."""
        self.pump.attach(daemon, instance, stream, os.dup(read), config)

    def store(self) -> LogStore:
        return LogStore(self.log_dir, subscribe=self.pump.subscribe)

    def messages(self, daemon: str = "web", stream: str | None = None) -> list[bytes]:
        streams = None if stream is None else (stream,)
        return [record.message for record in self.store().read(daemon, streams=streams)]

    def finish(self) -> None:
        for pump in self._pumps:
            assert pump.close(TIMEOUT_S)
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "log")
    yield made
    made.finish()
