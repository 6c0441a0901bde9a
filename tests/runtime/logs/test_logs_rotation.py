"""Rotation by size and age, compression, pruning, and what a kill leaves of them."""

from __future__ import annotations

import gzip
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from duende.config.daemon import LogConfig, LogFormat
from duende.runtime.logs.archive import Job, compress, tidy
from duende.runtime.logs.naming import list_archives, next_stamp
from tests.runtime.logs.conftest import TIMEOUT_S, Bench, flood_line, start_flood

LIMIT_BYTES = 256 * 1024


def archives_of(directory: Path, stem: str = "web") -> list[bytes]:
    out = []
    for archive in list_archives(directory, stem):
        data = Path(archive.path).read_bytes()
        out.append(gzip.decompress(data) if archive.compressed else data)
    return out


@pytest.mark.parametrize("form", list(LogFormat))
@pytest.mark.real
@pytest.mark.claim("F018")
def test_ten_times_the_limit_at_full_speed(bench: Bench, form: LogFormat) -> None:
    count = 30_000  # of about 104 bytes
    read, write = bench.pipe()
    bench.attach(read, LogConfig(format=form, max_size=LIMIT_BYTES, keep=0))
    flood = start_flood(write, count)
    bench.close_fd(write)
    bench.pump.drained("web", 1).result(TIMEOUT_S)
    assert flood.wait() == 0
    assert bench.messages() == [flood_line(number) for number in range(count)]
    assert bench.pump.close(TIMEOUT_S)  # or the archives change their names while they are looked at
    stem = "web+stdout" if form is LogFormat.RAW else "web"
    archives = archives_of(bench.log_dir, stem)
    assert len(archives) >= 10
    for content in [*archives, (bench.log_dir / f"{stem}.log").read_bytes()]:
        assert content.endswith(b"\n")
        last_line = content[content.rfind(b"\n", 0, -1) + 1 :]
        assert len(content) - len(last_line) < LIMIT_BYTES
    assert all(len(content) >= LIMIT_BYTES for content in archives)


def test_rotation_is_on_by_default() -> None:
    config = LogConfig()
    assert config.max_size
    assert config.max_age
    assert config.keep
    assert config.compress


def test_an_old_file_is_rotated_at_its_next_line(bench: Bench) -> None:
    now_ns = [1_795_228_560 * 10**9]
    bench.new_pump(wall_ns=lambda: now_ns[0])
    wrote = threading.Semaphore(0)
    bench.pump.subscribe("web", wrote.release)
    read, write = bench.pipe()
    bench.attach(read, LogConfig(max_age=60.0, compress=False))
    for step_s in (0, 59, 1, 59, 1):
        now_ns[0] += step_s * 10**9
        os.write(write, b"line\n")
        assert wrote.acquire(timeout=TIMEOUT_S)
    # The age is the first line's, so it survives the manager.
    assert bench.pump.close(TIMEOUT_S)
    assert [content.count(b"\n") for content in archives_of(bench.log_dir)] == [2, 2]
    now_ns[0] += 60 * 10**9
    bench.new_pump(wall_ns=lambda: now_ns[0])
    bench.attach(read, LogConfig(max_age=60.0, compress=False))
    os.write(write, b"line\n")
    assert bench.pump.close(TIMEOUT_S)
    assert len(archives_of(bench.log_dir)) == 3


def make_archives(directory: Path, *contents: bytes) -> list[str]:
    stamp, paths = "", []
    for content in contents:
        stamp = next_stamp(0, stamp)
        paths.append(str(directory / f"web.{stamp}.log"))
        Path(paths[-1]).write_bytes(content)
    return paths


def test_archives_are_kept_by_count(tmp_path: Path) -> None:
    make_archives(tmp_path, b"1", b"2", b"3", b"4")
    tidy(Job("web", tmp_path, "web", LogConfig(keep=2)))
    assert archives_of(tmp_path) == [b"3", b"4"]
    assert all(archive.compressed for archive in list_archives(tmp_path, "web"))


def test_archives_are_kept_by_total_size(tmp_path: Path) -> None:
    make_archives(tmp_path, b"1" * 100, b"2" * 100, b"3" * 100)
    tidy(Job("web", tmp_path, "web", LogConfig(total_size=250, compress=False)))
    assert [content[:1] for content in archives_of(tmp_path)] == [b"2", b"3"]
    tidy(Job("web", tmp_path, "web", LogConfig(total_size=99, compress=False)))
    assert archives_of(tmp_path) == []


def test_archives_of_other_daemons_are_left_alone(tmp_path: Path) -> None:
    stamp = next_stamp(0, "")
    others = [
        tmp_path / f"web.2.{stamp}.log",
        tmp_path / f"web+stdout.{stamp}.log",
        tmp_path / f"webx.{stamp}.log.gz.tmp",
    ]
    for other in others:
        other.write_bytes(b"theirs")
    make_archives(tmp_path, b"ours")
    tidy(Job("web", tmp_path, "web", LogConfig(total_size=1)))
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_what_a_killed_compression_left_is_finished(tmp_path: Path) -> None:
    first, second = make_archives(tmp_path, b"first" * 1000, b"second" * 1000)
    Path(f"{first}.gz.tmp").write_bytes(b"torn")  # killed while compressing
    Path(f"{second}.gz").write_bytes(gzip.compress(b"second" * 1000))  # killed before the plain one was removed
    assert archives_of(tmp_path) == [b"first" * 1000, b"second" * 1000]
    tidy(Job("web", tmp_path, "web", LogConfig()))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        Path(f"{path}.gz").name for path in (first, second)
    )
    assert archives_of(tmp_path) == [b"first" * 1000, b"second" * 1000]


def test_a_compression_that_is_called_off_leaves_the_plain_file(tmp_path: Path) -> None:
    (path,) = make_archives(tmp_path, b"x" * 1_000_000)
    compress(path, lambda: True)
    assert [entry.name for entry in tmp_path.iterdir()] == [Path(path).name]


def test_stamps_only_grow_when_the_clock_goes_back() -> None:
    first = next_stamp(1_795_228_560_123_456_789, "")
    assert first == "20261121T023600.123456Z"
    assert next_stamp(1_795_228_560_123_456_789, first) == "20261121T023600.123457Z"
    assert next_stamp(0, first) == "20261121T023600.123457Z"
    assert next_stamp(0, "20261231T235959.999999Z") == "20270101T000000.000000Z"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount(2) of a tmpfs is refused here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("form", list(LogFormat))
@pytest.mark.real
@pytest.mark.claim("F104")
def test_a_full_disk_alerts_waits_and_goes_on(small_disk: Path, form: LogFormat) -> None:
    count = 30_000
    bench = Bench(small_disk / "log")
    full, cleared = threading.Event(), threading.Event()
    bench.on_alert = lambda daemon, message: (bench.alerts.append((daemon, message)), full.set())[0]
    bench.on_cleared = lambda daemon: (bench.cleared.append(daemon), cleared.set())[0]
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (1024 * 1024))
    read, write = bench.pipe()
    elsewhere = small_disk.parent / "elsewhere"
    bench.attach(read, LogConfig(format=form, max_size=0))
    quiet_read, quiet_write = bench.pipe()
    bench.attach(quiet_read, LogConfig(directory=elsewhere), daemon="quiet")
    seen = threading.Event()
    bench.pump.subscribe("quiet", seen.set)
    done = bench.pump.drained("web", 1)
    # About 3 MB in all, of which 1 MiB has room; the reader side is drained to another disk below.
    flood = start_flood(write, count)
    bench.close_fd(write)
    assert full.wait(TIMEOUT_S)
    assert "No space left on device" in bench.alerts[0][1]
    os.write(quiet_write, b"not affected\n")
    assert seen.wait(TIMEOUT_S)
    path = small_disk / "log" / ("web+stdout.log" if form is LogFormat.RAW else "web.log")
    held = path.read_bytes()
    assert held.endswith(b"\n")
    assert flood.poll() is None  # it waits; nothing was thrown away
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert cleared.wait(TIMEOUT_S)
    done.result(TIMEOUT_S)
    assert flood.wait() == 0
    assert bench.messages() == [flood_line(number) for number in range(count)]
    assert len(bench.alerts) == len(bench.cleared) == 1
    bench.finish()


@pytest.mark.real
@pytest.mark.claim("F104")
def test_a_disk_that_is_full_from_the_start_does_not_stop_the_pump(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=4096"], check=False, capture_output=True)
    bench = Bench(small_disk)
    cleared, alerted = threading.Event(), threading.Event()
    bench.on_cleared = lambda daemon: cleared.set()
    bench.on_alert = lambda daemon, message: (bench.alerts.append((daemon, message)), alerted.set())[0]
    assert "may repeat lines" in bench.alerts[0][1]
    read, write = bench.pipe()
    bench.attach(read, LogConfig())
    os.write(write, b"patience\n")
    assert alerted.wait(TIMEOUT_S)
    ballast.unlink()
    assert cleared.wait(TIMEOUT_S)
    assert bench.messages() == [b"patience"]
    bench.finish()
