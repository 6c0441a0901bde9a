"""How much memory does a supervisor take for itself, with few and with many daemons?

python -m bench.memory [--quick | --full] [--no-peers]
"""

from __future__ import annotations

from bench.figures import Figure, Options, run
from bench.processes import private_bytes, pss_bytes
from bench.supervisors import PEERS, Duende, Fifo, Supervisor, Unavailable, started

__all__ = ["measure"]


def _memory(kind: type[Supervisor], count: int) -> list[Figure]:
    fifo = Fifo()
    try:
        with started(kind, {f"d{n}": fifo.teller() for n in range(count)}) as supervisor:
            fifo.read(count)
            own = supervisor.processes()
            sizes = {role: (pss_bytes(pid), private_bytes(pid)) for role, pid in own.items()}
    finally:
        fifo.close()
    figures = []
    for role, (pss, private) in sizes.items():
        who = kind.name if role.startswith(kind.name[:5]) else f"{kind.name} {role}"
        figures.append(Figure(f"PSS with {count}", who, "MiB", (pss / 2**20,)))
        figures.append(Figure(f"private with {count}", who, "MiB", (private / 2**20,)))
    return figures


def measure(options: Options) -> list[Figure]:
    """Stacks of 1 and 1000 commands, of peers 1 and 100."""
    figures = [figure for count in (1, options.pick(100, 1000, 1000)) for figure in _memory(Duende, count)]
    for peer in PEERS if options.peers else ():
        for count in (1, options.pick(20, 100, 1000)):
            try:
                figures += _memory(peer, count)
            except (Unavailable, TimeoutError) as error:
                figures.append(Figure(f"PSS with {count}", peer.name, "MiB", skipped=str(error)))
    return figures


if __name__ == "__main__":
    run("How much memory does a supervisor take for itself?", measure)
