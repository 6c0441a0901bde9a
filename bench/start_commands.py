"""How long until the last of many commands runs, from the moment the supervisor is started?

Every command writes a line as its first act; the time ends with the last line. The floor is the same shell programs
started by a bare loop of `subprocess.Popen`.

    python -m bench.start_commands [--quick | --full] [--no-peers]
"""

from __future__ import annotations

import subprocess
import time

from bench.figures import Figure, Options, run
from bench.supervisors import PEERS, Duende, Fifo, Supervisor, Unavailable, started

__all__ = ["measure"]


def _seconds(kind: type[Supervisor], count: int) -> float:
    fifo = Fifo()
    try:
        start_s = time.monotonic()
        with started(kind, {f"d{n}": fifo.teller() for n in range(count)}):
            return fifo.read(count)[-1][0] - start_s
    finally:
        fifo.close()


def _command_line_s(count: int) -> float:
    """The whole `duende up -d`, until it says that all are ready."""
    supervisor = Duende()
    try:
        start_s = time.monotonic()
        supervisor.start({f"d{n}": ["sleep", "1000000"] for n in range(count)})
        return time.monotonic() - start_s
    finally:
        supervisor.stop()


def _floor_s(count: int) -> float:
    fifo = Fifo()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        start_s = time.monotonic()
        processes += [subprocess.Popen(fifo.teller()) for _ in range(count)]
        return fifo.read(count)[-1][0] - start_s
    finally:
        for process in processes:
            process.kill()
            process.wait()
        fifo.close()


def measure(options: Options) -> list[Figure]:
    """Whole stacks of two sizes."""
    figures: list[Figure] = []
    large = options.pick(200, 1000, 1000)
    rounds = options.pick(1, 1, 3)
    for count in (100, large):
        what = f"{count} commands up"
        figures.append(Figure(f"{what}, bare loop", "subprocess", "s", tuple(_floor_s(count) for _ in range(rounds))))
        figures.append(Figure(f"{what}", "duende", "s", tuple(_seconds(Duende, count) for _ in range(rounds))))
        figures.append(
            Figure(f"{what}, `up -d` done", "duende", "s", tuple(_command_line_s(count) for _ in range(rounds)))
        )
        for peer in PEERS if options.peers else ():
            try:
                figures.append(Figure(what, peer.name, "s", tuple(_seconds(peer, count) for _ in range(rounds))))
            except (Unavailable, TimeoutError) as error:
                figures.append(Figure(what, peer.name, "s", skipped=str(error)))
    return figures


if __name__ == "__main__":
    run("How long until the last of many commands runs?", measure)
