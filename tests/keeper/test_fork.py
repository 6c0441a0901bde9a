"""A child of `child.fork` begins in its cgroup; where that can't be it is a plain fork, and nothing is hidden."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from duende.keeper import child
from duende.system.cgroup import Cgroup, CgroupBase


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """An empty cgroup of version 2."""
    base, reason = CgroupBase.detect()
    if base is None or base.kill_hierarchy.version != 2:
        pytest.skip(f"no cgroup of version 2 can be made here: {reason or 'version 1 only'}")
    made = base.create(f"t{os.getpid()}-{uuid.uuid4().hex[:8]}", "one", 1)
    yield made
    made.remove()


def _seen_by_child(spec: dict[str, Any]) -> tuple[str, list[str]]:
    """The child's /proc/self/cgroup as it begins, and the cgroups that are left to be entered."""
    read_end, write_end = os.pipe()
    pid = child.fork(spec)
    if pid == 0:
        try:
            with open("/proc/self/cgroup") as file:
                os.write(write_end, (file.read() + "|" + " ".join(spec["cgroup_procs"])).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        cgroups, _, left = file.read().partition("|")
    assert os.waitpid(pid, 0) == (pid, 0)
    return cgroups, left.split()


def test_a_child_is_born_in_its_cgroup_and_the_parent_keeps_its_specification(cgroup: Cgroup) -> None:
    spec = {"cgroup_procs": [*cgroup.procs_files, "/elsewhere/cgroup.procs"]}
    cgroups, left = _seen_by_child(spec)
    assert f"/duende-{cgroup.stack}/one.1\n" in cgroups
    assert left == ["/elsewhere/cgroup.procs"]
    assert spec == {"cgroup_procs": [*cgroup.procs_files, "/elsewhere/cgroup.procs"]}


@pytest.mark.parametrize("path", ["/nowhere/at/all/cgroup.procs", "/proc/cgroup.procs"])
def test_where_it_can_not_be_born_there_the_path_is_left_for_prepare(path: str) -> None:
    with open("/proc/self/cgroup") as file:
        ours = file.read()
    assert _seen_by_child({"cgroup_procs": [path]}) == (ours, [path])
