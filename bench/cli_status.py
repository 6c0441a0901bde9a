"""How long does `status` take as a whole process, with few and with many daemons?

python -m bench.cli_status [--quick | --full] [--no-peers]
"""

from __future__ import annotations

import sys

from bench.figures import Figure, Options, run
from bench.supervisors import PEERS, Duende, Fifo, Supervisor, Unavailable, run_times_s, started

__all__ = ["measure"]


def _status_ms(kind: type[Supervisor], count: int, runs: int) -> tuple[float, ...]:
    fifo = Fifo()
    try:
        with started(kind, {f"d{n}": fifo.teller() for n in range(count)}) as supervisor:
            fifo.read(count)  # all of them run
            times = run_times_s(supervisor.status_argv(), supervisor.environment(), runs)
    finally:
        fifo.close()
    return tuple(value * 1000 for value in times)


def measure(options: Options) -> list[Figure]:
    """Stacks of 1, 100 and 1000, beside bare interpreters."""
    runs = options.pick(10, 40, 200)
    figures = []
    for argv in (["-c", "pass"], ["-I", "-S", "-c", "pass"]):
        times = run_times_s([sys.executable, *argv], {}, runs)
        figures.append(
            Figure("an interpreter that does nothing", f"python {' '.join(argv)}", "ms", tuple(t * 1000 for t in times))
        )
    for count in (1, 100, 1000):
        what = f"`status` with {count}"
        aim = "60 ms" if count < 1000 else ""
        figures.append(Figure(what, "duende", "ms", _status_ms(Duende, count, runs), aim))
        for peer in PEERS if options.peers and count <= 100 else ():
            try:
                figures.append(Figure(what, peer.name, "ms", _status_ms(peer, count, max(runs // 4, 5))))
            except (Unavailable, TimeoutError) as error:
                figures.append(Figure(what, peer.name, "ms", skipped=str(error)))
    return figures


if __name__ == "__main__":
    run("How long does `status` take as a whole process?", measure)
