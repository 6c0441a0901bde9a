"""Real processes in real cgroups, inside an outer one that bounds every probe (100 MiB, 40 processes)."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from duende.system import process
from duende.system.cgroup import Cgroup, CgroupBase
from duende.system.cgroup_detect import Hierarchy
from duende.system.cgroup_files import write_text

OUTER_MEMORY_BYTES = 100 << 20
OUTER_PIDS_MAX = 40

# Joins the cgroups named before "--", then becomes the Python text that follows.
_LAUNCHER = """
import os, sys
split = sys.argv.index("--")
for path in sys.argv[1:split]:
    fd = os.open(path, os.O_WRONLY); os.write(fd, b"0"); os.close(fd)
code, sys.argv = sys.argv[split + 1], ["-c", *sys.argv[split + 2:]]
exec(compile(code, "<test program>", "exec"))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def arena() -> Iterator[CgroupBase]:
    """A base below our own cgroup, limited from outside, under a unique name; removed with all that is in it."""
    if sys.platform != "linux":
        pytest.skip("cgroups are Linux's")
    own, reason = CgroupBase.detect()
    if own is None:
        pytest.skip(f"needs a cgroup to make cgroups in: {reason}")
    name = f"duende-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    made = []
    for one in own.hierarchies:
        directory = f"{one.directory}/{name}"
        os.mkdir(directory)
        made.append(replace(one, directory=directory))
        if one.version == 1 and "cpuset" in one.controllers:
            for file in ("cpuset.cpus", "cpuset.mems"):
                with open(f"{one.directory}/{file}") as source:
                    write_text(f"{directory}/{file}", source.read().strip())
        if one.version == 1 and "memory" in one.controllers:
            write_text(f"{directory}/memory.limit_in_bytes", str(OUTER_MEMORY_BYTES))
        if one.version == 1 and "pids" in one.controllers:
            write_text(f"{directory}/pids.max", str(OUTER_PIDS_MAX))
    base = CgroupBase(tuple(made), own.layout)
    try:
        yield base
    finally:
        # Every process is in all hierarchies, so the strongest way to kill comes first.
        made.sort(key=lambda one: one != base.kill_hierarchy)
        outer = [Cgroup("test", name, 0, (one,)) for one in made]
        for one in outer:
            assert one.kill(), f"processes survived in {one.directories[0].directory}"
        for one in outer:
            one.remove()


@pytest.fixture
def v1_arena(arena: CgroupBase) -> CgroupBase:
    """The same machine as if v2 were not mounted."""
    return without(arena, lambda one: one.version == 2, "the v1 freezer", "freezer")


@pytest.fixture
def pids_arena(arena: CgroupBase) -> CgroupBase:
    """The same machine as if there were neither v2 nor a freezer."""
    return without(arena, lambda one: one.version == 2 or "freezer" in one.controllers, "v1 pids", "pids")


def without(base: CgroupBase, drop: Callable[[Hierarchy], bool], needs: str, controller: str) -> CgroupBase:
    kept = tuple(one for one in base.hierarchies if not drop(one))
    if not any(controller in one.controllers for one in kept):
        pytest.skip(f"needs {needs}")
    return replace(base, hierarchies=kept)


@pytest.fixture
def start(arena: CgroupBase) -> Iterator[Start]:
    """Start Python text inside a cgroup and inside the arena's limits; ended and reaped at the end, whatever it did."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, cgroup: Cgroup, *arguments: str) -> subprocess.Popen[str]:
        # The outer limits hold in every hierarchy that the instance's cgroup has no directory in.
        covered = {one.directory.split("/duende-test-")[0] for one in cgroup.directories}
        outer = [f"{one.directory}/cgroup.procs" for one in arena.hierarchies if not _is_covered(one, covered)]
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCHER, *cgroup.procs_files, *outer, "--", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield run
    for child in started:
        child.kill()  # its descendants end with the arena
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.close()
        child.wait()


def _is_covered(one: Hierarchy, covered: set[str]) -> bool:
    return one.directory.split("/duende-test-")[0] in covered


def read_pids(child: subprocess.Popen[str], count: int) -> list[int]:
    """The process ids that the program reports, one in a line."""
    assert child.stdout is not None
    return [int(child.stdout.readline()) for _ in range(count)]


def wait_gone(pidfds: list[int], limit_s: float = 5.0) -> None:
    """Wait until every process has ended; its pidfd becomes readable then."""
    import select

    for fd in pidfds:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        assert poller.poll(int(limit_s * 1000)), "a process survived"


@pytest.fixture
def pidfds() -> Iterator[Callable[[list[int]], list[int]]]:
    """Open pidfds, closed at the end."""
    opened: list[int] = []

    def open_all(pids: list[int]) -> list[int]:
        fresh = [process.pidfd_open(pid) for pid in pids]
        opened.extend(fresh)
        return fresh

    yield open_all
    for fd in opened:
        os.close(fd)
