"""What does a supervisor do while nothing happens? Processor time and wake-ups of all its threads.

python -m bench.idle [--quick | --full] [--no-peers]
"""

from __future__ import annotations

import time

from bench.figures import Figure, Options, run
from bench.processes import activity
from bench.supervisors import PEERS, Duende, Fifo, Supervisor, Unavailable, started

__all__ = ["measure"]

_SETTLE_S = 3.0  # what a start leaves to do: a last look at a pipe comes after a second


def _idle(kind: type[Supervisor], count: int, seconds: float, aim: str = "") -> list[Figure]:
    fifo = Fifo()
    try:
        with started(kind, {f"d{n}": fifo.teller() for n in range(count)}) as supervisor:
            fifo.read(count)
            own = supervisor.processes()
            time.sleep(_SETTLE_S)
            before = {role: activity(pid) for role, pid in own.items()}
            time.sleep(seconds)
            spent = {role: activity(pid).since(before[role]) for role, pid in own.items()}
    finally:
        fifo.close()
    figures = []
    for role, found in spent.items():
        who = kind.name if role.startswith(kind.name[:5]) else f"{kind.name} {role}"
        what = f"{count} daemons idle for {seconds:g} s"
        figures.append(Figure(f"{what}: wake-ups", who, "", (float(found.wakeups),), aim))
        figures.append(Figure(f"{what}: CPU", who, "ms", (found.cpu_s * 1000,), aim))
    return figures


def measure(options: Options) -> list[Figure]:
    """Many daemons under each, and nothing to do."""
    seconds = options.pick(3, 10, 30)
    figures = _idle(Duende, options.pick(100, 1000, 1000), seconds, "0: no wake-up without cause")
    for peer in PEERS if options.peers else ():
        count = options.pick(20, 100, 1000)
        try:
            figures += _idle(peer, count, seconds)
        except (Unavailable, TimeoutError) as error:
            figures.append(Figure(f"{count} daemons idle", peer.name, "", skipped=str(error)))
    return figures


if __name__ == "__main__":
    run("What does a supervisor do while nothing happens?", measure)
