"""How long from SIGKILL until the next incarnation's first act, where no delay is configured?

python -m bench.restart_latency [--quick | --full] [--no-peers]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from bench import class_daemon
from bench.figures import Figure, Options, run
from bench.supervisors import PEERS, Duende, Fifo, Supervisor, Unavailable, started

__all__ = ["measure"]

_CALM_S = 0.02  # between two kills, so that what the last one set in motion has ended
_RESTART = 'restart = { policy = "always", delay = "0s", reset_after = "0s" }'


def _kill_again_and_again(fifo: Fifo, kills: int) -> tuple[float, ...]:
    times_ms = []
    _, pid = fifo.read(1)[0]
    for _ in range(kills):
        time.sleep(_CALM_S)
        start_s = time.monotonic()
        os.kill(int(pid), signal.SIGKILL)
        at_s, pid = fifo.read(1)[0]
        times_ms.append((at_s - start_s) * 1000)
    return tuple(times_ms)


def _command_ms(kind: type[Supervisor], kills: int, others: int = 0) -> tuple[float, ...]:
    fifo = Fifo()
    programs = {f"other{n}": ["sleep", "1000000"] for n in range(others)}
    try:
        with started(kind, {"one": fifo.teller(), **programs}):
            return _kill_again_and_again(fifo, kills)
    finally:
        fifo.close()


def _class_ms(kills: int) -> tuple[float, ...]:
    fifo = Fifo()
    supervisor = Duende()
    target = f"{Path(class_daemon.__file__).resolve()}:Telling"
    try:
        supervisor.start_toml(
            f"[daemon.one]\ndaemon = {json.dumps(target)}\n"
            f"settings = {{ fifo = {json.dumps(str(fifo.path))} }}\n{_RESTART}\n"
        )
        return _kill_again_and_again(fifo, kills)
    finally:
        supervisor.stop()
        fifo.close()


def _floor_ms(kills: int) -> tuple[float, ...]:
    """The same program killed, waited for and started again by the shortest of loops."""
    fifo = Fifo()
    times_ms = []
    process = subprocess.Popen(fifo.teller())
    try:
        fifo.read(1)
        for _ in range(kills):
            time.sleep(_CALM_S)
            start_s = time.monotonic()
            process.kill()
            process.wait()
            process = subprocess.Popen(fifo.teller())
            times_ms.append((fifo.read(1)[0][0] - start_s) * 1000)
    finally:
        process.kill()
        process.wait()
        fifo.close()
    return tuple(times_ms)


def measure(options: Options) -> list[Figure]:
    """One daemon that is killed again and again."""
    kills = options.pick(20, 200, 1000)
    what = "SIGKILL to the next first act"
    figures = [
        Figure(f"{what}, command, bare loop", "subprocess", "ms", _floor_ms(kills)),
        Figure(f"{what}, command", "duende", "ms", _command_ms(Duende, kills), "median < 3 ms"),
        Figure(f"{what}, command, 500 others", "duende", "ms", _command_ms(Duende, kills, others=500)),
        Figure(f"{what}, Python class", "duende", "ms", _class_ms(kills)),
    ]
    for peer in PEERS if options.peers else ():
        try:
            figures.append(Figure(f"{what}, command", peer.name, "ms", _command_ms(peer, max(kills // 20, 5))))
        except (Unavailable, TimeoutError) as error:
            figures.append(Figure(f"{what}, command", peer.name, "ms", skipped=str(error)))
    return figures


if __name__ == "__main__":
    run("How long from SIGKILL until the next incarnation's first act?", measure)
