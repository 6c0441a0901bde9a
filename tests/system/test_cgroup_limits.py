"""Limits: what is written (pure, both generations), and that the kernel then keeps to it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from duende.model.limits import ResourceConfig
from duende.system import cgroup_limits
from duende.system.cgroup import CgroupBase
from duende.system.cgroup_detect import Hierarchy
from duende.system.cgroup_limits import LimitWrite, plan

from .conftest import OUTER_MEMORY_BYTES, Start

ALL = ResourceConfig(
    memory_bytes=64 << 20, memory_swap_bytes=16 << 20, cpu_quota_percent=150, cpu_shares=1024,
    io_read_bps=1000, io_write_bps=2000, pids_max=7,
)  # fmt: skip


def _written(controller: str, version: int, resources: ResourceConfig) -> list[tuple[str, str]]:
    return [(write.file, write.text) for write in plan(controller, version, resources, ["8:0"])]


def test_v2_writes() -> None:
    assert _written("memory", 2, ALL) == [("memory.max", "67108864"), ("memory.swap.max", "16777216")]
    assert _written("cpu", 2, ALL) == [("cpu.max", "150000 100000"), ("cpu.weight", "39")]
    assert _written("pids", 2, ALL) == [("pids.max", "7")]
    assert _written("io", 2, ALL) == [("io.max", "8:0 rbps=1000"), ("io.max", "8:0 wbps=2000")]


def test_v1_writes() -> None:
    assert _written("memory", 1, ALL) == [
        ("memory.limit_in_bytes", "67108864"),
        ("memory.memsw.limit_in_bytes", "83886080"),
    ]
    assert _written("cpu", 1, ALL) == [
        ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000"), ("cpu.shares", "1024"),
    ]  # fmt: skip
    assert _written("io", 1, ALL) == [
        ("blkio.throttle.read_bps_device", "8:0 1000"), ("blkio.throttle.write_bps_device", "8:0 2000"),
    ]  # fmt: skip


def test_a_small_quota_gets_a_longer_period() -> None:
    assert _written("cpu", 2, ResourceConfig(cpu_quota_percent=0.5)) == [("cpu.max", "5000 1000000")]


@pytest.mark.parametrize(("shares", "weight"), [(2, "1"), (262144, "10000")])
def test_shares_map_onto_the_whole_range_of_weights(shares: int, weight: str) -> None:
    assert _written("cpu", 2, ResourceConfig(cpu_shares=shares)) == [("cpu.weight", weight)]


def test_nothing_is_written_for_nothing() -> None:
    assert cgroup_limits.controllers_for(ResourceConfig(memory_bytes=0, open_files_max=9)) == frozenset()
    assert cgroup_limits.apply((), ResourceConfig()) == []


def test_what_no_controller_limits_is_said() -> None:
    assert cgroup_limits.apply((), ResourceConfig(pids_max=5, memory_bytes=9)) == [
        "memory_bytes: no cgroup controller 'memory' is available here",
        "pids_max: no cgroup controller 'pids' is available here",
    ]


def _recorded_v2(root: Path, *, procs: str) -> tuple[Hierarchy, ...]:
    """The files of a delegated v2 subtree, as plain files: it shows what is written where, not what a kernel does."""
    leaf = root / "duende-shop" / "web.1"
    leaf.mkdir(parents=True)
    for directory in (root, leaf.parent, leaf):
        (directory / "cgroup.controllers").write_text("memory pids\n")
        (directory / "cgroup.subtree_control").write_text("")
        (directory / "cgroup.type").write_text("domain\n")
        (directory / "cgroup.procs").write_text("")
    (root / "cgroup.procs").write_text(procs)
    (leaf / "pids.max").write_text("max\n")
    return (Hierarchy(2, frozenset({"memory", "pids"}), str(leaf)),)


def test_v2_controllers_are_switched_on_above_the_instance(tmp_path: Path) -> None:
    directories = _recorded_v2(tmp_path, procs="")
    assert cgroup_limits.apply(directories, ResourceConfig(pids_max=5)) == []
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+pids"
    assert (tmp_path / "duende-shop" / "cgroup.subtree_control").read_text() == "+pids"
    assert (tmp_path / "duende-shop" / "web.1" / "cgroup.subtree_control").read_text() == ""
    assert (tmp_path / "duende-shop" / "web.1" / "pids.max").read_text().startswith("5")


def test_v2_with_processes_beside_is_not_touched_but_said(tmp_path: Path) -> None:
    (reason,) = cgroup_limits.apply(_recorded_v2(tmp_path, procs="123\n"), ResourceConfig(pids_max=5))
    assert reason.startswith("pids_max: cgroup v2 can't switch the controller 'pids' on in ")
    assert "Delegate=yes" in reason
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""


# From here on: real limits.


def _limited(arena: CgroupBase, controller: str, resources: ResourceConfig):  # type: ignore[no-untyped-def]
    if not any(one.version == 1 and controller in one.controllers for one in arena.hierarchies):
        pytest.skip(f"needs the v1 controller {controller}")
    cgroup = arena.create("shop", "web", 1, resources)
    return cgroup, cgroup.apply_limits(resources)


EATER = """
import mmap, sys
block = mmap.mmap(-1, int(sys.argv[1]))
for offset in range(0, len(block), 4096): block[offset] = 1
print("ate it all", flush=True)
"""


@pytest.mark.real
@pytest.mark.parametrize("nested", [False, True])
def test_a_memory_limit_kills_and_is_counted(arena: CgroupBase, start: Start, nested: bool) -> None:
    resources = ResourceConfig(memory_bytes=24 << 20, memory_swap_bytes=1 << 20)
    cgroup, missing = _limited(arena, "memory", resources)
    assert [text for text in missing if not text.startswith("memory_swap_bytes: this kernel has no")] == []
    assert cgroup.oom_kills() == 0
    target = cgroup
    if nested:
        memory = next(one for one in cgroup.directories if "memory" in one.controllers)
        os.mkdir(f"{memory.directory}/inner")
        inner = Hierarchy(1, memory.controllers, f"{memory.directory}/inner")
        target = type(cgroup)("shop", "web", 1, (inner,))
    child = start(EATER, target, str(OUTER_MEMORY_BYTES // 2))
    assert child.stdout is not None
    assert child.stdout.read() == ""
    assert child.wait(20) == -signal.SIGKILL
    assert cgroup.oom_kills() == 1


@pytest.mark.real
def test_within_the_memory_limit_nothing_happens(arena: CgroupBase, start: Start) -> None:
    cgroup, _ = _limited(arena, "memory", ResourceConfig(memory_bytes=48 << 20))
    child = start(EATER, cgroup, str(8 << 20))
    assert child.stdout is not None
    assert child.stdout.read() == "ate it all\n"
    assert child.wait(20) == 0
    assert cgroup.oom_kills() == 0


@pytest.mark.real
def test_a_process_limit_is_kept(arena: CgroupBase, start: Start) -> None:
    cgroup, missing = _limited(arena, "pids", ResourceConfig(pids_max=5))
    assert missing == []
    code = """
import os, signal
count = 1
for _ in range(20):
    try: pid = os.fork()
    except BlockingIOError: break
    if pid == 0:
        while True: signal.pause()
    count += 1
print(count, flush=True)
"""
    child = start(code, cgroup)
    assert child.stdout is not None
    assert child.stdout.readline() == "5\n"
    assert len(cgroup.pids()) in (4, 5)  # the leader may have ended already


@pytest.mark.real
def test_a_cpu_quota_throttles(arena: CgroupBase, start: Start) -> None:
    cgroup, missing = _limited(arena, "cpu", ResourceConfig(cpu_quota_percent=20, cpu_shares=512))
    assert missing == []
    code = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    child = start(code, cgroup)
    assert child.stdout is not None
    assert 0.05 < float(child.stdout.read()) < 0.4
    cpu = next(one.directory for one in cgroup.directories if "cpu" in one.controllers)
    assert Path(cpu, "cpu.shares").read_text() == "512\n"


@pytest.mark.real
def test_an_io_limit_is_set_on_every_disk_and_its_gap_is_said(arena: CgroupBase) -> None:
    devices = cgroup_limits.block_devices()
    if not devices:
        pytest.skip("needs a disk")
    cgroup, missing = _limited(arena, "blkio", ResourceConfig(io_read_bps=1 << 20, io_write_bps=2 << 20))
    assert [text.split(":")[0:2] for text in missing] == [["io_write_bps", " only in part"]]
    blkio = next(one.directory for one in cgroup.directories if "blkio" in one.controllers)
    expected = [f"{device} {1 << 20}" for device in devices]
    assert Path(blkio, "blkio.throttle.read_bps_device").read_text().splitlines() == expected


@pytest.mark.real
def test_a_refused_limit_is_said(arena: CgroupBase) -> None:
    cgroup, missing = _limited(arena, "memory", ResourceConfig(memory_bytes=1 << 20))
    assert missing == []
    memory = next(one.directory for one in cgroup.directories if "memory" in one.controllers)
    bad = cgroup_limits._write(memory, LimitWrite("memory_bytes", "memory.limit_in_bytes", "much"))
    assert bad == ["memory_bytes: cannot write 'much' to memory.limit_in_bytes: Invalid argument"]


@pytest.mark.real
def test_swap_alone_is_refused_on_v1_in_words(arena: CgroupBase) -> None:
    _, missing = _limited(arena, "memory", ResourceConfig(memory_swap_bytes=1 << 20))
    assert missing == ["memory_swap_bytes: cgroup v1 limits swap only together with memory; set memory_bytes too"]


@pytest.mark.real
def test_without_a_memory_controller_nobody_counts(v1_arena: CgroupBase) -> None:
    assert v1_arena.create("shop", "web", 1).oom_kills() is None
