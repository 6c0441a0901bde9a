"""How fast can a daemon write its log through each supervisor, processes and all?

A daemon says in a FIFO when it begins and when its last byte is taken; what is still in its pipe then (at most 1 MiB)
counts as written for everybody. How fast the pump alone is, beside `cat`, tells logs_throughput.py.

    python -m bench.logs_whole [--quick | --full] [--no-peers]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.figures import Figure, Options, run
from bench.supervisors import PEERS, Duende, Fifo, Peer, Unavailable, started, toml_argv

__all__ = ["measure"]

_WRITER = """
import os, sys, time
fifo, count = sys.argv[1], int(sys.argv[2])
line = b"2026-11-21 02:36:00,123 INFO request served in 12 ms path=/api/items status=200 bytes=5120 id=abcd"
block = (line + bytes([10])) * 655
view = memoryview(block)
def tell():
    with open(fifo, "w") as file:
        print(time.monotonic(), file=file)
tell()
for _ in range(count):
    at = 0
    while at < len(block):
        at += os.write(1, view[at:])
tell()
time.sleep(1000000)
"""
_BLOCK_BYTES = 99 * 655  # what the writer writes at once


def _rate(fifo: Fifo, bytes_: int) -> float:
    (_, begin), (_, end) = fifo.read(2)
    return bytes_ / 1e6 / (float(end) - float(begin))


def _argv(fifo: Fifo, count: int) -> list[str]:
    program = fifo.folder / "writer.py"
    program.write_text(_WRITER)
    return [sys.executable, "-I", "-S", str(program), str(fifo.path), str(count)]


def _duende(log: str, count: int) -> float:
    fifo = Fifo()
    supervisor = Duende()
    try:
        supervisor.start_toml(f"[daemon.one]\ncommand = {toml_argv(_argv(fifo, count))}\nlog = {log}\n")
        rate = _rate(fifo, count * _BLOCK_BYTES)
        _await_files(supervisor.stack.state, 0 if "max_size = 0" not in log else count * _BLOCK_BYTES)
        return rate
    finally:
        supervisor.stop()
        fifo.close()


def _peer(kind: type[Peer], count: int) -> float:
    fifo = Fifo()
    try:
        with started(kind, {"one": _argv(fifo, count)}) as supervisor:
            rate = _rate(fifo, count * _BLOCK_BYTES)
            assert isinstance(supervisor, Peer)
            _await_files(supervisor.folder, count * _BLOCK_BYTES)
            return rate
    finally:
        fifo.close()


def _await_files(folder: Path, size_bytes: int) -> None:
    """See that all of it was really written; what was still in the pipe comes soon."""
    deadline_s = time.monotonic() + 10.0
    while sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < size_bytes:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{folder} never got {size_bytes} bytes of log")
        time.sleep(0.01)


def measure(options: Options) -> list[Figure]:
    """The same lines through each."""
    count = options.pick(50, 300, 1000) * 1_000_000 // _BLOCK_BYTES
    rounds = options.pick(1, 3, 5)
    figures = []
    for name, log in (
        ("raw", '{ format = "raw", max_size = 0 }'),
        ("text (default)", '{ format = "text", max_size = 0 }'),
        ("json", '{ format = "json", max_size = 0 }'),
        ("text, rotated and compressed", '{ format = "text", max_size = "10MiB", keep = 3, compress = true }'),
    ):
        rates = tuple(_duende(log, count) for _ in range(rounds))
        figures.append(Figure(f"log of one writer, {name}", "duende", "MB/s", rates))
    for peer in PEERS if options.peers else ():
        try:
            rates = tuple(_peer(peer, count) for _ in range(rounds))
            figures.append(Figure("log of one writer, raw", peer.name, "MB/s", rates))
        except (Unavailable, TimeoutError) as error:
            figures.append(Figure("log of one writer, raw", peer.name, "MB/s", skipped=str(error)))
    return figures


if __name__ == "__main__":
    run("How fast can a daemon write its log through each supervisor?", measure)
