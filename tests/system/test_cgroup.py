"""Cgroups for real: whatever a tree does, all of it belongs to the instance and all of it dies."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable

import pytest

from duende.errors import InvalidState, NotSupported
from duende.model.limits import ResourceConfig
from duende.system import cgroup_kill
from duende.system.cgroup import Cgroup, CgroupBase
from duende.system.cgroup_detect import Layout

from .conftest import Start, read_pids, wait_gone

pytestmark = pytest.mark.real
OpenAll = Callable[[list[int]], list[int]]

# A leader with four children: plain, in a session of its own, double-forked, and double-forked in a session of its
# own with a child. All ignore SIGTERM and SIGHUP; each reports its id.
TREE = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
def stay():
    os.write(1, b"%d\\n" % os.getpid())
    while True: signal.pause()
def fork(then):
    if os.fork() == 0:
        then(); stay()
def double(then):
    pid = os.fork()
    if pid == 0:
        fork(then); os._exit(0)
    os.waitpid(pid, 0)
fork(lambda: None)
fork(os.setsid)
double(lambda: None)
double(lambda: (os.setsid(), fork(lambda: None)))
stay()
"""
TREE_SIZE = 6

# Processes that each live for moments: child forks child, parent ends. Never more than eight at a time.
CHURN = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                if os.fork(): os._exit(0)
            except OSError: pass
os.write(1, b"%d\\n" % os.getpid())
while True: signal.pause()
"""


@pytest.fixture(params=["v2", "freezer", "pids"])
def base(
    request: pytest.FixtureRequest, arena: CgroupBase, v1_arena: CgroupBase, pids_arena: CgroupBase
) -> CgroupBase:
    """The arena by each way to end a tree."""
    return {"v2": arena, "freezer": v1_arena, "pids": pids_arena}[request.param]


def test_each_way_has_its_own_hierarchy(arena: CgroupBase, v1_arena: CgroupBase, pids_arena: CgroupBase) -> None:
    assert arena.layout is not Layout.HYBRID or arena.kill_hierarchy.version == 2
    assert "freezer" in v1_arena.kill_hierarchy.controllers
    assert "pids" in pids_arena.kill_hierarchy.controllers


@pytest.mark.claim("F059")
def test_every_descendant_is_attributed(base: CgroupBase, start: Start) -> None:
    cgroup = base.create("shop", "web", 1)
    child = start(TREE, cgroup)
    reported = read_pids(child, TREE_SIZE)
    assert cgroup.pids() == sorted(reported)
    assert child.pid in reported
    assert not cgroup.is_empty()


def test_kill_ends_a_tree_that_double_forked_and_left_its_session(
    base: CgroupBase, start: Start, pidfds: OpenAll
) -> None:
    cgroup = base.create("shop", "web", 1)
    child = start(TREE, cgroup)
    fds = pidfds(read_pids(child, TREE_SIZE))
    assert cgroup.kill()
    wait_gone(fds)
    assert child.wait(5) == -signal.SIGKILL
    assert cgroup.pids() == []
    assert cgroup.is_empty()
    cgroup.remove()


@pytest.mark.parametrize("way", ["v2", "freezer", "v2 before cgroup.kill"])
def test_kill_ends_a_tree_that_never_stands_still(
    way: str, arena: CgroupBase, v1_arena: CgroupBase, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_rounds(directory: str) -> bool:
        raise AssertionError("the tree was not frozen: rounds of killing only win by luck")

    monkeypatch.setattr(cgroup_kill, "kill_by_rounds", no_rounds)
    cgroup = (v1_arena if way == "freezer" else arena).create("shop", "churn", 1)
    read_pids(start(CHURN, cgroup), 1)
    if way == "v2 before cgroup.kill":
        assert cgroup_kill.kill_by_freezing(cgroup.directories[0].directory, 2)
    else:
        assert cgroup.kill()
    _wait_empty(cgroup)
    cgroup.remove()


def test_kill_reaches_nested_cgroups_also_frozen_ones(base: CgroupBase, start: Start, pidfds: OpenAll) -> None:
    cgroup = base.create("shop", "engine", 1)
    nested = f"{cgroup.directories[0].directory}/box/inner"
    os.makedirs(nested)
    child = start("import os, signal\nos.write(1, b'%d\\n' % os.getpid())\nsignal.pause()", cgroup)
    pids = read_pids(child, 1)
    _write(f"{nested}/cgroup.procs", str(pids[0]))
    if cgroup.directories[0].version == 2 or "freezer" in cgroup.directories[0].controllers:
        cgroup_kill.freeze(nested, cgroup.directories[0].version)
    assert cgroup.pids() == pids
    fds = pidfds(pids)
    assert cgroup.kill()
    wait_gone(fds)
    child.wait(5)
    cgroup.remove()
    assert not os.path.exists(nested)


def test_kill_ends_what_is_paused(base: CgroupBase, start: Start, pidfds: OpenAll) -> None:
    cgroup = base.create("shop", "web", 1)
    child = start(TREE, cgroup)
    fds = pidfds(read_pids(child, TREE_SIZE))
    cgroup.signal(signal.SIGSTOP)
    if cgroup.directories[0].version == 2 or "freezer" in cgroup.directories[0].controllers:
        cgroup.freeze()
    assert cgroup.kill()
    wait_gone(fds)


def test_kill_spares_the_neighbours(base: CgroupBase, start: Start, pidfds: OpenAll) -> None:
    first, second = base.create("shop", "web", 1), base.create("shop", "web", 2)
    doomed, spared = start(TREE, first), start(TREE, second)
    fds = pidfds(read_pids(doomed, TREE_SIZE))
    kept = sorted(read_pids(spared, TREE_SIZE))
    first.kill()
    wait_gone(fds)
    assert second.pids() == kept
    assert spared.poll() is None


def test_kill_of_a_removed_cgroup_has_nothing_to_do(base: CgroupBase) -> None:
    cgroup = base.create("shop", "web", 1)
    cgroup.remove()
    assert cgroup.kill()
    assert cgroup.is_empty()
    assert cgroup.pids() == []
    cgroup.remove()


def test_a_process_outside_our_pid_namespace_is_never_signalled_as_0(
    arena: CgroupBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    monkeypatch.setattr(cgroup_kill, "pids_below", lambda directory: [0])
    monkeypatch.setattr(cgroup_kill, "pidfd_open", lambda pid: opened.append(pid) or 1 / 0)
    assert cgroup_kill.signal_all("unused", signal.SIGKILL) is False
    assert opened == []


def test_signal_reaches_the_whole_tree(base: CgroupBase, start: Start, pidfds: OpenAll) -> None:
    cgroup = base.create("shop", "web", 1)
    child = start(TREE, cgroup)
    fds = pidfds(read_pids(child, TREE_SIZE))
    cgroup.signal(signal.SIGUSR1)
    wait_gone(fds)
    assert child.wait(5) == -signal.SIGUSR1


@pytest.mark.parametrize("way", ["v2", "freezer"])
def test_freeze_stops_the_clock_of_the_tree(
    way: str, arena: CgroupBase, v1_arena: CgroupBase, start: Start, pidfds: OpenAll
) -> None:
    cgroup = {"v2": arena, "freezer": v1_arena}[way].create("shop", "web", 1)
    child = start("import os\nos.write(1, b'%d\\n' % os.getpid())\nwhile os.read(0, 1): os.write(1, b'7\\n')", cgroup)
    read_pids(child, 1)
    assert child.stdin is not None
    assert child.stdout is not None
    cgroup.freeze()
    assert cgroup_kill._wait_until(cgroup.is_frozen, 2.0)
    child.stdin.write("x")
    child.stdin.flush()
    assert not select.select([child.stdout], [], [], 0.2)[0], "a frozen process answered"
    cgroup.thaw()
    assert select.select([child.stdout], [], [], 5)[0]
    assert read_pids(child, 1) == [7]
    assert not cgroup.is_frozen()


def test_freeze_without_a_freezer_is_refused(pids_arena: CgroupBase) -> None:
    with pytest.raises(NotSupported, match="freeze is not supported on cgroup v1 without a freezer"):
        pids_arena.create("shop", "web", 1).freeze()


def test_v1_has_no_event_for_empty(v1_arena: CgroupBase) -> None:
    cgroup = v1_arena.create("shop", "web", 1)
    assert cgroup.empty_event_fd() is None
    assert cgroup.watch_empty() is None


def test_the_raw_event_comes_when_the_last_process_is_gone(arena: CgroupBase, start: Start) -> None:
    cgroup = arena.create("shop", "web", 1)
    read_pids(start(TREE, cgroup), TREE_SIZE)
    fd = cgroup.empty_event_fd()
    assert fd is not None
    try:
        assert b"populated 1" in os.pread(fd, 4096, 0)
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        assert not poller.poll(0)
        cgroup.kill()
        assert poller.poll(5000)
        assert b"populated 0" in os.pread(fd, 4096, 0)
    finally:
        os.close(fd)


def test_an_event_loop_learns_that_a_cgroup_is_empty_without_spinning(arena: CgroupBase, start: Start) -> None:
    cgroup = arena.create("shop", "web", 1)
    read_pids(start(TREE, cgroup), TREE_SIZE)
    watch = cgroup.watch_empty()
    assert watch is not None
    wakeups = 0

    async def wait() -> None:
        nonlocal wakeups
        loop, empty = asyncio.get_running_loop(), asyncio.Event()

        def on_news() -> None:
            nonlocal wakeups
            wakeups += 1
            if not watch.populated():
                empty.set()

        assert watch.populated()
        loop.add_reader(watch.fileno(), on_news)
        loop.call_soon(cgroup.kill)
        try:
            await asyncio.wait_for(empty.wait(), 5)
        finally:
            loop.remove_reader(watch.fileno())

    asyncio.run(wait())
    assert 1 <= wakeups <= TREE_SIZE
    cgroup.remove()
    assert not watch.populated()
    watch.close()
    watch.close()


def test_create_twice_is_refused_and_leaves_the_first(base: CgroupBase) -> None:
    cgroup = base.create("shop", "web", 1)
    with pytest.raises(InvalidState, match=r"cannot make a cgroup for web: .*/duende-shop/web\.1 exists already"):
        base.create("shop", "web", 1)
    assert os.path.isdir(cgroup.directories[0].directory)


def test_a_failed_create_leaves_nothing(arena: CgroupBase) -> None:
    resources = ResourceConfig(pids_max=5, memory_bytes=1 << 20)
    made = next(one for one in arena.hierarchies if "pids" in one.controllers)
    os.makedirs(f"{made.directory}/duende-shop/web.1")
    with pytest.raises(InvalidState):
        arena.create("shop", "web", 1, resources)
    assert not os.path.exists(f"{arena.kill_hierarchy.directory}/duende-shop")


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a\0b", "x" * 201])
def test_a_name_that_can_not_be_a_directory_is_refused(arena: CgroupBase, name: str) -> None:
    with pytest.raises(ValueError, match="the daemon name"):
        arena.create("shop", name, 1)
    with pytest.raises(ValueError, match="the stack name"):
        arena.create(name, "web", 1)


def test_leftovers_are_found_and_survive_as_json(base: CgroupBase) -> None:
    names = [("cache.eu", 12), ("web", 3), ("web", 10)]
    made = [base.create("shop", name, number, ResourceConfig(pids_max=9)) for name, number in reversed(names)]
    base.create("other", "web", 1)
    found = base.list_existing("shop")
    assert [(one.name, one.instance) for one in found] == names
    assert found[1].directories[0] == made[1].directories[0]
    assert {one.directory for one in found[1].directories} == {one.directory for one in made[1].directories}
    assert Cgroup.from_json(found[0].to_json()) == found[0]
    assert base.list_existing("nobody") == []


def test_remove_takes_the_stack_directory_with_the_last_instance(base: CgroupBase) -> None:
    first, second = base.create("shop", "web", 1), base.create("shop", "web", 2)
    parent = os.path.dirname(first.directories[0].directory)
    first.remove()
    assert os.path.isdir(parent)
    second.remove()
    assert not os.path.exists(parent)


def test_remove_says_what_is_still_populated(base: CgroupBase, start: Start) -> None:
    cgroup = base.create("shop", "web", 1)
    read_pids(start(TREE, cgroup), TREE_SIZE)
    with pytest.raises(InvalidState, match=r"cannot remove the cgroup .*/web\.1 of web: Device or resource busy"):
        cgroup.remove()
    assert len(cgroup.pids()) == TREE_SIZE


def _wait_empty(cgroup: Cgroup) -> None:
    assert cgroup_kill._wait_until(cgroup.is_empty, 5.0), f"left: {cgroup.pids()}"


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)
