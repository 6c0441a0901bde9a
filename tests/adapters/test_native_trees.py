"""Nothing of an instance's tree survives it, with every means of killing that a machine may have."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from duende.adapters.base import InstanceExited
from duende.system.cgroup import CgroupBase
from tests.adapters.conftest import Bench, Play, cgroups_of, is_alive, read, until
from tests.adapters.test_native import as_nobody

pytestmark = pytest.mark.real

# A leader with: a child, a child in its own session, a double-forked one in its own session, one that ignores signals.
# Each says its id in the file; `leave` lets the leader end by itself once all are there.
TREE = """
import os, signal, sys, time
path, leave = sys.argv[1], sys.argv[2]
def say():
    with open(path, "a") as file: file.write(f"{os.getpid()}\\n")
def rest(): say(); time.sleep(1000); os._exit(0)
if not os.fork(): rest()
if not os.fork(): os.setsid(); rest()
if not os.fork():
    os.setsid()
    if not os.fork(): rest()
    os._exit(0)
if not os.fork():
    for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
    rest()
say()
if leave == "leave":
    while len(open(path).readlines()) < 5: time.sleep(0.01)
    os._exit(7)
time.sleep(1000)
"""
HOW = ["v2", "v1 freezer", "v1 pids", "none"]


def base_of(how: str) -> CgroupBase | None:
    """The kernel's means to kill a tree, as if this machine had only that."""
    if how == "none":
        return None
    base, reason = CgroupBase.detect()
    if base is None:
        pytest.skip(f"needs cgroups: {reason}")
    wanted = how.removeprefix("v1 ")
    kept = tuple(one for one in base.hierarchies if (one.version == 2 if how == "v2" else wanted in one.controllers))
    if not kept:
        pytest.skip(f"needs cgroup {how}")
    return replace(base, hierarchies=kept)


async def _all_five(path: Path) -> list[int]:
    await until(lambda: path.exists() and len(path.read_text().split()) == 5, "the whole tree")
    return [int(pid) for pid in read(path).split()]


@pytest.mark.parametrize("how", HOW)
def test_kill_ends_the_whole_tree(play: Play, folder: Path, how: str) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn(sys.executable, "-S", "-c", TREE, str(folder / "pids"), "stay")
        pids = await _all_five(folder / "pids")
        assert set(bench.adapter.tree_of(spawned.handle).pids()) == set(pids)
        await bench.adapter.kill(spawned.handle)
        exited = await bench.event(InstanceExited)
        assert [pid for pid in pids if is_alive(pid)] == []  # at the moment the exit is told, not later
        assert (exited.exit.signal, exited.survivors) == (9, ())

    play(scene, base=base_of(how))


@pytest.mark.parametrize("how", HOW)
def test_a_leader_that_goes_first_takes_its_tree_along(play: Play, folder: Path, how: str) -> None:
    async def scene(bench: Bench) -> None:
        await bench.spawn(sys.executable, "-S", "-c", TREE, str(folder / "pids"), "leave")
        exited = await bench.event(InstanceExited)
        pids = [int(pid) for pid in (folder / "pids").read_text().split()]
        assert len(pids) == 5
        assert [pid for pid in pids if is_alive(pid)] == []
        assert (exited.exit.code, exited.survivors) == (7, ())
        await bench.adapter.release(exited.key)
        assert not cgroups_of(bench.stack)

    play(scene, base=base_of(how))


@pytest.mark.parametrize("how", ["v2", "v1 freezer"])
def test_who_clears_its_environment_and_leaves_the_session_is_found_by_the_cgroup(
    play: Play, folder: Path, how: str
) -> None:
    pid = folder / "pid"
    script = f"setsid env -i sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000' & "
    script += f"while [ ! -e {pid} ]; do sleep 0.01; done"

    async def scene(bench: Bench) -> None:
        await bench.spawn("sh", "-c", script)
        exited = await bench.event(InstanceExited)
        assert not is_alive(int(read(pid)))
        assert exited.survivors == ()

    play(scene, base=base_of(how))


@pytest.mark.parametrize("how", ["v2", "v1 freezer"])
def test_a_tree_that_forks_while_it_is_killed_ends_all_the_same(play: Play, how: str) -> None:
    code = "import os, time\nend = time.time() + 20\nfor _ in range(3):\n    if not os.fork(): break\n"
    code += "while time.time() < end:\n    if os.fork(): os._exit(0)\n    time.sleep(0.001)\n"  # hop from id to id

    async def scene(bench: Bench) -> None:
        await bench.spawn(sys.executable, "-S", "-c", code)
        exited = await bench.event(InstanceExited)
        assert exited.exit.code == 0
        assert exited.survivors == ()
        assert [pid for pid in bench.living() if is_alive(pid)] == []

    play(scene, base=base_of(how))


def test_a_tree_of_an_unprivileged_user_ends_without_any_cgroup(folder: Path) -> None:
    code = f"""
import asyncio, json, os, sys
from pathlib import Path
from duende.adapters.base import InstanceExited
from duende.adapters.native.adapter import NativeAdapter
from duende.config.daemon import DaemonConfig
from duende.model.ids import DaemonId
own = Path(sys.argv[1])
async def main():
    exits = asyncio.Queue()
    adapter = NativeAdapter(own)
    await adapter.open(lambda event: exits.put_nowait(event) if isinstance(event, InstanceExited) else None)
    assert adapter.cgroups.base is None, adapter.cgroups.base
    said = []
    for how in ("leave", "stay"):
        path = own / how
        command = (sys.executable, "-S", "-c", {TREE!r}, str(path), how)
        spawned = await adapter.spawn(DaemonConfig(how, command=command), DaemonId.new())
        if how == "stay":
            while not path.exists() or len(path.read_text().split()) < 5:
                await asyncio.sleep(0.01)
            await adapter.kill(spawned.handle)
        exited = await asyncio.wait_for(exits.get(), 20)
        left = []
        for pid in path.read_text().split():
            try:
                state = Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0]
            except FileNotFoundError:
                continue
            left += [pid] if state not in "ZX" else []
        said.append([exited.exit.code, exited.exit.signal, exited.survivors, len(path.read_text().split()), left])
        await adapter.release(exited.key)
    await adapter.close()
    print(json.dumps(said))
asyncio.run(main())
"""
    assert json.loads(as_nobody(code, folder)) == [[7, None, [], 5, []], [None, 9, [], 5, []]]
    assert os.listdir("/sys/fs/cgroup")
