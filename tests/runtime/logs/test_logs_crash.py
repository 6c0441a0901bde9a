"""A manager killed at any moment loses nothing, tears nothing and writes nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from duende.config.daemon import LogConfig, LogFormat
from duende.runtime.logs import LogPump, LogStore, logfile
from duende.runtime.logs.archive import Archivist
from duende.runtime.logs.capture import Capture
from duende.runtime.logs.cursor import CursorFile
from duende.runtime.logs.encode import make_encoder
from duende.runtime.logs.logfile import LogFile
from duende.runtime.logs.naming import stem_for
from duende.runtime.logs.source import Scratch, open_source
from tests.runtime.logs.conftest import TIMEOUT_S, Bench, child_environment, flood_line, start_flood

FORMS = pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.RAW, LogFormat.JSON])

# A manager that kills itself at a random moment of its pump's work.
_VICTIM = """
import os, random, signal, sys, threading
from pathlib import Path
from duende.config.daemon import LogConfig, LogFormat
from duende.runtime.logs import LogPump
fd, directory, form, wait_s = int(sys.argv[1]), Path(sys.argv[2]), LogFormat(sys.argv[3]), float(sys.argv[4])
pump, wrote = LogPump(directory), threading.Event()
pump.subscribe("web", wrote.set)
pump.start()
pump.attach("web", 1, "stdout", os.dup(fd), LogConfig(format=form, max_size=300_000, keep=0))
wrote.wait(10)
threading.Event().wait(wait_s)
os.kill(os.getpid(), signal.SIGKILL)
"""


@FORMS
@pytest.mark.real
@pytest.mark.claim("F018")
def test_a_manager_killed_in_a_flood_loses_tears_and_doubles_nothing(tmp_path: Path, form: LogFormat) -> None:
    count = 300_000
    read, write = os.pipe()
    flood = start_flood(write, count)
    os.close(write)
    log_dir = tmp_path / "log"
    for round_number in range(8):
        arguments = [sys.executable, "-c", _VICTIM, str(read), str(log_dir), form.value, str(round_number * 0.0017)]
        victim = subprocess.run(arguments, pass_fds=[read], env=child_environment(), timeout=TIMEOUT_S, check=False)
        assert victim.returncode == -signal.SIGKILL
    pump = LogPump(log_dir)
    pump.start()
    pump.attach("web", 1, "stdout", read, LogConfig(format=form, max_size=300_000, keep=0))
    pump.drained("web", 1).result(TIMEOUT_S)
    assert flood.wait() == 0
    assert pump.close(TIMEOUT_S)
    lines = [record.message for record in LogStore(log_dir).read("web")]
    assert lines == [flood_line(number) for number in range(count)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


class Life:
    """One manager's life with one stream, step by step and without threads."""

    def __init__(self, log_dir: Path, fd: int, form: LogFormat) -> None:
        config = LogConfig(format=form)
        self.cursors = CursorFile(log_dir / ".cursors", "boot")
        stem = stem_for("web", "stdout", form)
        archivist = Archivist(lambda daemon, message: None)
        self.file = LogFile("web", log_dir, stem, config, self.cursors, archivist, time.time_ns)
        self.scratch = Scratch()
        source = open_source(os.dup(fd), self.scratch)
        cursor = self.cursors.claim(source.identity)
        self.capture = Capture(
            "web", 1, "stdout", source, cursor, make_encoder(form, "web", 1, "stdout"), self.file, form
        )

    def end(self) -> None:
        self.capture.close()
        self.file.close()
        self.scratch.close()
        self.cursors.close()


def _killed_after_write(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def consume(count: int) -> None:
        raise Killed

    monkeypatch.setattr(life.capture.source, "consume", consume)


def _killed_after_consume(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    consume = life.capture.source.consume

    def consume_and_die(count: int) -> None:
        consume(count)
        raise Killed

    monkeypatch.setattr(life.capture.source, "consume", consume_and_die)


def _killed_within_write(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, parts: list[bytes]) -> int:
        data = b"".join(parts)
        os.write(fd, data[: len(data) // 2])
        raise Killed

    monkeypatch.setattr(logfile, "os", _Replaced(os, writev=write))


def _killed_before_write(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, parts: list[bytes]) -> int:
        raise Killed

    monkeypatch.setattr(logfile, "os", _Replaced(os, writev=write))


class _Replaced:
    """A module with some of its functions replaced."""

    def __init__(self, module: object, **functions: Callable[..., object]) -> None:
        self._module = module
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


@FORMS
@pytest.mark.parametrize(
    "kill", [_killed_before_write, _killed_within_write, _killed_after_write, _killed_after_consume]
)
@pytest.mark.parametrize("more", [b"", b"new one\nnew two\n"], ids=["quiet", "more-came"])
@pytest.mark.parametrize("piece", [False, True], ids=["lines", "piece"])
def test_each_point_of_a_turn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: LogFormat,
    kill: Callable[[Life, pytest.MonkeyPatch], None],
    more: bytes,
    piece: bool,
) -> None:
    read, write = os.pipe()
    first, second = b"one\ntwo\n", b"three\n<3>four\nfi"
    os.write(write, first)
    life = Life(tmp_path, read, form)
    assert life.capture.turn(0.0) == len(first)
    os.write(write, b"<3>begun" if piece else second)
    life.capture.flush = piece
    with monkeypatch.context() as patch:
        kill(life, patch)
        with pytest.raises(Killed):
            life.capture.turn(0.0)
    life.end()
    os.write(write, b"<4>ve\n" + more)
    os.close(write)
    life = Life(tmp_path, read, form)
    life.capture.hung_up = True
    while not life.capture.ended:
        life.capture.turn(0.0)
    life.end()
    os.close(read)
    prefix = b"<3>" if form is LogFormat.RAW else b""
    middle = [prefix + b"begun<4>ve"] if piece else [b"three", prefix + b"four", b"fi<4>ve"]
    expected = [b"one", b"two", *middle, *more.splitlines()]
    assert [record.message for record in LogStore(tmp_path).read("web")] == expected


@pytest.mark.parametrize(("before", "after"), [(b"tick\ntick\n", b"tick\n"), (b"tick\nti", b"ck\n")])
def test_equal_lines_after_a_kill_are_told_from_a_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes
) -> None:
    """Consumed, then killed; the same bytes come again, but the pipe holds fewer than it did: they are new."""
    read, write = os.pipe()
    os.write(write, before)
    life = Life(tmp_path, read, LogFormat.TEXT)
    _killed_after_consume(life, monkeypatch)
    with pytest.raises(Killed):
        life.capture.turn(0.0)
    life.end()
    os.write(write, after)
    life = Life(tmp_path, read, LogFormat.TEXT)
    life.capture.turn(0.0)
    life.end()
    os.close(read)
    os.close(write)
    messages = [record.message for record in LogStore(tmp_path).read("web")]
    assert messages == (before + after).splitlines()


def test_after_a_reboot_old_cursors_say_nothing(tmp_path: Path) -> None:
    cursors = CursorFile(tmp_path / ".cursors", "boot one")
    cursors.claim(77).settle(mid_line=True)
    cursors.close()
    cursors = CursorFile(tmp_path / ".cursors", "boot one")
    assert cursors.claim(77).mid_line
    cursors.close()
    cursors = CursorFile(tmp_path / ".cursors", "boot two")
    assert not cursors.claim(77).mid_line
    cursors.close()


def test_slots_are_given_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duende.runtime.logs.cursor._SLOTS", 3)
    cursors = CursorFile(tmp_path / ".cursors", "boot")
    for pipe_inode in range(1, 100):
        cursors.claim(pipe_inode).release()
    for pipe_inode in (1000, 1001, 1002):
        cursors.claim(pipe_inode).settle(mid_line=True)
    cursors.close()
    cursors = CursorFile(tmp_path / ".cursors", "boot")  # of the three pipes, one is attached again
    assert cursors.claim(1001).mid_line
    assert not cursors.claim(2000).mid_line  # takes the place of one that is gone
    cursors.close()


def test_a_line_that_others_left_unfinished_is_ended_first(bench: Bench) -> None:
    (bench.log_dir / "web.log").write_bytes(b"2026-11-21T02:36:00.123456Z stdout F half a li")
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"whole\n")
    assert bench.pump.close(TIMEOUT_S)
    assert bench.messages() == [b"half a li", b"whole"]
