"""What does the machine itself take for the parts of a start? The floor under the other figures.

python -m bench.floor [--quick | --full]
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import time
from collections.abc import Callable

from bench.figures import Figure, Options, run
from bench.supervisors import Fifo
from duende.keeper import child
from duende.system.cgroup import Cgroup, CgroupBase

__all__ = ["measure"]

_MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h, Linux 5.14
_PAGES = 1000
_CALM_S = 0.03  # the kernel's grace periods of the round before have passed


def _copy_us(touch: Callable[[mmap.mmap], None]) -> float:
    """Microseconds a page, for a forked child that gets copies of its parent's pages by `touch`."""
    memory = mmap.mmap(-1, _PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _write_each(memory)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            start_s = time.perf_counter()
            touch(memory)
            os.write(write_end, str((time.perf_counter() - start_s) / _PAGES * 1e6).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        took_us = float(file.read())
    os.waitpid(pid, 0)
    memory.close()
    return took_us


def _write_each(memory: mmap.mmap) -> None:
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1


def _populate(memory: mmap.mmap) -> None:
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), _MADV_POPULATE_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "madvise(MADV_POPULATE_WRITE)")


def _start_ms(fifo: Fifo, start: Callable[[list[str]], int], rounds: int) -> tuple[float, ...]:
    """From the call to the program's first act."""
    times = []
    for _ in range(rounds):
        time.sleep(_CALM_S)
        start_s = time.monotonic()
        pid = start(fifo.teller())
        times.append((fifo.read(1)[0][0] - start_s) * 1000)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return tuple(times)


def _fork_exec(argv: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        _execute(argv)
    return pid


def _vfork_exec(argv: list[str]) -> int:
    process = subprocess.Popen(argv)
    process.returncode = 0  # reaped by the caller
    return process.pid


def _execute(argv: list[str]) -> None:
    try:
        os.execv(argv[0], argv)
    finally:
        os._exit(127)


def _in_cgroup(cgroup: Cgroup, *, born: bool) -> Callable[[list[str]], int]:
    def start(argv: list[str]) -> int:
        spec = {"cgroup_procs": cgroup.procs_files}
        pid = child.fork(spec) if born else os.fork()
        if pid == 0:
            for path in spec["cgroup_procs"]:
                fd = os.open(path, os.O_WRONLY)
                os.write(fd, b"0")
                os.close(fd)
            _execute(argv)
        return pid

    return start


def measure(options: Options) -> list[Figure]:
    """Pages, forks, cgroups."""
    rounds = options.pick(10, 100, 500)
    few = rounds // 5
    touched = tuple(_copy_us(_write_each) for _ in range(few))
    populated = tuple(_copy_us(_populate) for _ in range(few))
    figures = [
        Figure("a page copied after a fork, one by one", "Linux", "µs", touched),
        Figure("a page copied after a fork, all at once", "Linux", "µs", populated),
    ]
    what = "call to first act of `sh`"
    fifo = Fifo()
    try:
        figures.append(Figure(f"{what}, vfork and exec", "subprocess", "ms", _start_ms(fifo, _vfork_exec, rounds)))
        figures.append(Figure(f"{what}, fork and exec", "os.fork", "ms", _start_ms(fifo, _fork_exec, rounds)))
        base, reason = CgroupBase.detect()
        if base is None:
            return [*figures, Figure(f"{what}, in a cgroup", "Linux", "ms", skipped=reason)]
        cgroup = base.create(f"bench-{os.getpid()}", "floor", 1)
        try:
            for name, born in (("moved into its cgroup", False), ("born in its cgroup", True)):
                times = _start_ms(fifo, _in_cgroup(cgroup, born=born), rounds)
                figures.append(Figure(f"{what}, {name}", "fork, exec", "ms", times))
        finally:
            cgroup.remove()
    finally:
        fifo.close()
    return figures


if __name__ == "__main__":
    run("What does the machine itself take for the parts of a start?", measure)
