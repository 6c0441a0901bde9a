"""The pump: nothing lost, nothing torn, streams apart, neighbours not held up."""

from __future__ import annotations

import os
import queue
import socket
import stat
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duende.config.daemon import LogConfig, LogFormat
from duende.errors import ConfigurationError, InvalidState
from duende.runtime.logs import LogPump, logfile, pump
from tests.runtime.logs.conftest import TIMEOUT_S, Bench, flood_line, start_flood

EVERY_FORM = pytest.mark.parametrize("form", list(LogFormat))
_instances = iter(range(1, 1_000_000))


def joined(bench: Bench, daemon: str, form: LogFormat, stream: str) -> bytes:
    """All that a stream wrote, with a newline after each line; priorities are put back."""
    records = list(bench.store().read(daemon, streams=[stream]))
    lines = [(b"<%d>" % r.priority if r.priority is not None else b"") + r.message for r in records]
    ends = [b"" if record.partial else b"\n" for record in records]
    return b"".join(line + end for line, end in zip(lines, ends, strict=True))


@EVERY_FORM
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    writes=st.lists(
        st.tuples(
            st.booleans(), st.one_of(st.binary(max_size=50), st.sampled_from([b"\n", b"<3>a\n", b"<", b"y" * 40_000]))
        ),
        max_size=12,
    ),
    max_size=st.sampled_from([0, 1, 60, 500]),
)
def test_any_bytes_split_anywhere_survive(
    bench: Bench, form: LogFormat, writes: list[tuple[bool, bytes]], max_size: int
) -> None:
    daemon = f"d{next(_instances)}"
    config = LogConfig(format=form, max_size=max_size, keep=0, compress=False)
    ends = {stream: bench.pipe() for stream in ("stdout", "stderr")}
    for stream, (read, _) in ends.items():
        bench.attach(read, config, daemon=daemon, stream=stream)
        bench.close_fd(read)
    done = bench.pump.drained(daemon, 1)
    expected = {"stdout": b"", "stderr": b""}
    for to_stdout, data in writes:
        stream = "stdout" if to_stdout else "stderr"
        os.write(ends[stream][1], data)
        expected[stream] += data
    for _, write in ends.values():
        bench.close_fd(write)
    done.result(TIMEOUT_S)
    for stream, data in expected.items():
        if data and not data.endswith(b"\n") and form is not LogFormat.RAW:
            data += b"\n"  # the last line of an instance is ended for it
        assert joined(bench, daemon, form, stream) == data


@EVERY_FORM
def test_a_line_of_ten_megabytes_survives(bench: Bench, form: LogFormat) -> None:
    line = (bytes(range(256)).replace(b"\n", b"") + b"x" * 3841) * 2500
    read, write = bench.pipe()
    bench.attach(read, LogConfig(format=form))
    done = bench.pump.drained("web", 1)
    writer = threading.Thread(target=lambda: (_write_all(write, line + b"\nafter\n"), bench.close_fd(write)))
    writer.start()
    done.result(TIMEOUT_S)
    writer.join()
    assert bench.messages() == [line, b"after"]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@EVERY_FORM
@pytest.mark.real
@pytest.mark.claim("F017")
def test_streams_are_told_apart_and_keep_their_order(bench: Bench, form: LogFormat) -> None:
    floods = []
    for stream, first in (("stdout", 0), ("stderr", 50_000)):
        read, write = bench.pipe()
        bench.attach(read, LogConfig(format=form, max_size=0), stream=stream)
        floods.append(start_flood(write, 20_000, first))
        bench.close_fd(write)
        bench.close_fd(read)
    bench.pump.drained("web", 1).result(TIMEOUT_S)
    assert [flood.wait() for flood in floods] == [0, 0]
    for stream, first in (("stdout", 0), ("stderr", 50_000)):
        assert bench.messages(stream=stream) == [flood_line(n) for n in range(first, first + 20_000)]


def test_a_neighbour_is_served_while_another_floods(bench: Bench) -> None:
    """By order of events: the flood has no end before the neighbour's line was seen."""
    seen = threading.Event()
    flood_read, flood_write = bench.pipe()
    quiet_read, quiet_write = bench.pipe()
    flooding = threading.Event()

    def flood() -> None:
        block = b"flood\n" * 10_000
        while not seen.is_set():
            os.write(flood_write, block)
            flooding.set()

    bench.attach(flood_read, LogConfig(max_size=1_000_000, keep=1, compress=False), daemon="loud")
    bench.attach(quiet_read, LogConfig(), daemon="quiet")
    bench.pump.subscribe("quiet", seen.set)
    writer = threading.Thread(target=flood)
    writer.start()
    assert flooding.wait(TIMEOUT_S)
    os.write(quiet_write, b"here\n")
    assert seen.wait(TIMEOUT_S)
    writer.join()
    assert bench.messages("quiet") == [b"here"]


def test_the_beginning_of_a_line_is_shown_after_a_while_and_its_end_joins_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "_PIECE_AFTER_S", 0.05)
    read, write = bench.pipe()
    wrote = threading.Semaphore(0)
    bench.pump.subscribe("web", wrote.release)
    bench.attach(read, LogConfig())
    os.write(write, b"<4>Password: ")
    assert wrote.acquire(timeout=TIMEOUT_S)
    assert b" stdout P:4 Password: \n" in (bench.log_dir / "web.log").read_bytes()
    os.write(write, b"<3>secret\n")
    assert wrote.acquire(timeout=TIMEOUT_S)
    assert bench.messages() == [b"Password: <3>secret"]


def test_a_manager_that_closes_leaves_a_piece_and_the_next_goes_on(bench: Bench) -> None:
    read, write = bench.pipe()
    for form in (LogFormat.TEXT, LogFormat.JSON, LogFormat.RAW):
        config = LogConfig(format=form)
        bench.attach(read, config)
        os.write(write, b"one\n<5>tw")
        assert bench.pump.close(TIMEOUT_S)
        os.write(write, b"<1>o\nthree\n")
        bench.new_pump()
        bench.attach(read, config)
        assert bench.pump.close(TIMEOUT_S)
        bench.new_pump()
    structured = [record for record in bench.store().read("web") if record.time_s is not None]
    assert [(r.message, r.priority) for r in structured] == [(b"one", None), (b"tw<1>o", 5), (b"three", None)] * 1 + [
        (b"one", None), (b"tw<1>o", 5), (b"three", None)
    ]  # fmt: skip
    assert (bench.log_dir / "web+stdout.log").read_bytes() == b"one\n<5>tw<1>o\nthree\n"


def test_close_takes_what_is_in_the_pipes_and_does_not_wait_for_their_ends(bench: Bench) -> None:
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"a\nb\n")
    done = bench.pump.drained("web", 1)
    assert bench.pump.close(TIMEOUT_S)
    assert bench.messages() == [b"a", b"b"]
    assert done.cancelled()
    assert bench.pump.close(TIMEOUT_S)  # again does no harm


def test_a_piece_without_an_end_is_ended_with_the_stream(bench: Bench) -> None:
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"half")
    assert bench.pump.close(TIMEOUT_S)
    bench.new_pump()
    bench.attach(read, LogConfig())
    bench.close_fd(write)
    bench.pump.drained("web", 1).result(TIMEOUT_S)
    read, write = bench.pipe()
    bench.attach(read, LogConfig(), instance=2)
    os.write(write, b"next\n")
    bench.close_fd(write)
    bench.pump.drained("web", 2).result(TIMEOUT_S)
    assert bench.messages() == [b"half", b"next"]


def test_the_last_raw_line_of_an_instance_is_not_joined_with_the_next_instance(bench: Bench) -> None:
    for instance in (1, 2):
        read, write = bench.pipe()
        bench.attach(read, LogConfig(format=LogFormat.RAW), instance=instance)
        os.write(write, b"no end")
        bench.close_fd(write)
        bench.pump.drained("web", instance).result(TIMEOUT_S)
    assert (bench.log_dir / "web+stdout.log").read_bytes() == b"no end\nno end"
    assert bench.messages() == [b"no end", b"no end"]


def test_detach_writes_what_is_there_and_lets_go(bench: Bench) -> None:
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"a\nrest")
    bench.pump.detach("web")
    bench.pump.drained("web", 1).result(TIMEOUT_S)
    assert bench.messages() == [b"a", b"rest"]
    os.write(write, b"later\n")  # nobody takes it
    assert os.read(read, 100) == b"later\n"


def test_a_removed_or_reopened_file_is_made_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "_CHECK_INTERVAL_S", 0.05)
    read, write = bench.pipe()
    wrote = threading.Semaphore(0)
    bench.pump.subscribe("web", wrote.release)
    bench.attach(read, LogConfig(format=LogFormat.RAW))
    path = bench.log_dir / "web+stdout.log"
    os.write(write, b"one\n")
    assert wrote.acquire(timeout=TIMEOUT_S)
    path.rename(bench.log_dir / "moved-by-others")
    bench.pump.reopen()
    os.write(write, b"two\n")
    assert wrote.acquire(timeout=TIMEOUT_S)
    assert path.read_bytes() == b"two\n"
    path.unlink()
    deadline_s = time.monotonic() + TIMEOUT_S
    # Without `reopen` it is noticed at the first look after the interval, and the next line is in the new file.
    while not (path.exists() and path.read_bytes()):
        assert time.monotonic() < deadline_s
        os.write(write, b"three\n")
        assert wrote.acquire(timeout=TIMEOUT_S)
    assert path.read_bytes() == b"three\n"


def test_a_socket_can_be_captured_too(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench.attach(ours.fileno(), LogConfig())
        theirs.sendall(b"one\n<2>two\nrest")
        theirs.shutdown(socket.SHUT_WR)
        bench.pump.drained("web", 1).result(TIMEOUT_S)
    assert bench.messages() == [b"one", b"two", b"rest"]


def test_files_are_private(bench: Bench) -> None:
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"x\n")
    assert bench.pump.close(TIMEOUT_S)
    assert stat.S_IMODE((bench.log_dir / "web.log").stat().st_mode) & 0o027 == 0
    assert stat.S_IMODE(bench.log_dir.stat().st_mode) & 0o027 == 0


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\0b", "web+stdout"])
def test_a_name_that_could_leave_the_directory_is_refused(bench: Bench, name: str) -> None:
    read, _ = bench.pipe()
    with pytest.raises(ConfigurationError, match="not a daemon's name"):
        bench.attach(read, LogConfig(), daemon=name)


def test_what_is_not_a_stream_is_refused(bench: Bench) -> None:
    read, _ = bench.pipe()
    with pytest.raises(InvalidState, match="neither stdout nor stderr"):
        bench.attach(read, LogConfig(), stream="stdlog")
    with open(__file__, "rb") as file, pytest.raises(InvalidState, match="is a file"):
        bench.attach(file.fileno(), LogConfig())


def test_a_link_in_place_of_the_log_is_not_followed(bench: Bench) -> None:
    alerted = threading.Event()
    bench.on_alert = lambda daemon, message: (bench.alerts.append((daemon, message)), alerted.set())[0]
    target = bench.log_dir / "target"
    target.write_bytes(b"")
    (bench.log_dir / "web.log").symlink_to(target)
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"x\n")
    assert alerted.wait(TIMEOUT_S)
    assert target.read_bytes() == b""
    assert bench.alerts[0][0] == "web"


def test_nothing_wakes_the_pump_while_nothing_happens(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few turns after the last line epoll waits without a limit."""
    wrote = threading.Event()
    waits: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    wait_s = LogPump._wait_s

    def watched(pump: LogPump) -> float | None:
        due_s = wait_s(pump)
        if wrote.is_set():
            waits.put(due_s)
        return due_s

    monkeypatch.setattr(LogPump, "_wait_s", watched)
    bench.pump.subscribe("web", wrote.set)
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"x\n")
    assert any(waits.get(timeout=TIMEOUT_S) is None for _ in range(5))
