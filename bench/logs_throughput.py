"""How fast is captured output written, beside `cat` writing the same to the same disk?

Each round runs every way once, one after the other, so that all meet the same weather; the result is the median of the
rounds and its ratio to `cat`.

    PYTHONPATH=src python bench/logs_throughput.py [--mb 300] [--rounds 5] [--dir DIR]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from duende.config.daemon import LogConfig, LogFormat
from duende.runtime.logs import LogPump

LINE = b"2026-11-21 02:36:00,123 INFO request served in 12 ms path=/api/items status=200 bytes=5120 id=abcd\n"
WRITER = """
import os, sys
count, block = int(sys.argv[1]), sys.argv[2].encode().decode("unicode_escape").encode() * 655
view = memoryview(block)
for _ in range(count):
    at = 0
    while at < len(block):
        at += os.write(1, view[at:])
"""
PIPE_BYTES = 1024 * 1024
BLOCK_BYTES = 256 * 1024


def start_writer(size_bytes: int, line: bytes = LINE) -> tuple[int, subprocess.Popen[bytes], int]:
    """The read end, the process, and how much it will write."""
    read, write = os.pipe()
    count = max(size_bytes // (len(line) * 655), 1)
    text = line.decode().encode("unicode_escape").decode()
    process = subprocess.Popen([sys.executable, "-S", "-c", WRITER, str(count), text], stdout=write)
    os.close(write)
    return read, process, count * 655 * len(line)


def cat(read: int, directory: Path, expected: int) -> None:
    with open(directory / "cat", "wb") as out:
        subprocess.run(["cat"], stdin=read, stdout=out, check=True)
    os.close(read)
    assert (directory / "cat").stat().st_size == expected


def read_write(read: int, directory: Path, expected: int) -> None:
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with open(directory / "rw", "wb", buffering=0) as out:
        while block := os.read(read, BLOCK_BYTES):
            out.write(block)
    os.close(read)
    assert (directory / "rw").stat().st_size == expected


def splice(read: int, directory: Path, expected: int) -> None:
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with open(directory / "splice", "wb", buffering=0) as out:
        while os.splice(read, out.fileno(), BLOCK_BYTES):
            pass
    os.close(read)
    assert (directory / "splice").stat().st_size == expected


def pump(config: LogConfig) -> Callable[[int, Path, int], None]:
    def run(read: int, directory: Path, expected: int) -> None:
        pump = LogPump(directory)
        pump.start()
        pump.attach("web", 1, "stdout", read, config)
        pump.drained("web", 1).result()
        pump.close()
        written = sum(entry.stat().st_size for entry in directory.iterdir() if entry.name.startswith("web"))
        assert config.max_size or written >= expected

    return run


WAYS: dict[str, Callable[[int, Path, int], None]] = {
    "cat": cat,
    "read+write loop": read_write,
    "splice loop": splice,
    "duende raw": pump(LogConfig(format=LogFormat.RAW, max_size=0)),
    "duende text": pump(LogConfig(format=LogFormat.TEXT, max_size=0)),
    "duende logfmt": pump(LogConfig(format=LogFormat.LOGFMT, max_size=0)),
    "duende json": pump(LogConfig(format=LogFormat.JSON, max_size=0)),
    "duende raw, rotated": pump(LogConfig(format=LogFormat.RAW)),
    "duende text, rotated": pump(LogConfig(format=LogFormat.TEXT)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None, help="where to write (default: the temporary directory)")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, way in WAYS.items():
            directory = Path(tempfile.mkdtemp(prefix="duende-bench-", dir=options.dir))
            try:
                read, process, size_bytes = start_writer(options.mb * 1_000_000)
                start_s = time.perf_counter()
                way(read, directory, size_bytes)
                rates[name].append(size_bytes / 1e6 / (time.perf_counter() - start_s))
                assert process.wait() == 0
            finally:
                shutil.rmtree(directory)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
          f"{options.mb} MB of {len(LINE)}-byte lines, median of {options.rounds}")  # fmt: skip
    base = statistics.median(rates["cat"])
    for name, values in rates.items():
        middle = statistics.median(values)
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{name:22s} {middle:7.0f} MB/s   {middle / base:5.2f} of cat   ({spread})")


if __name__ == "__main__":
    main()
