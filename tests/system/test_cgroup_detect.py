"""Finding our own cgroups in texts recorded from v1, v2 and hybrid machines and from containers on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from duende.system.cgroup import CgroupBase
from duende.system.cgroup_detect import Layout, layout_of, locate, parse_memberships, parse_mounts

V2_CGROUP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/duende.service\n"
V2_MOUNTS = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
35 22 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
V1_CGROUP = """\
12:pids:/user.slice
6:cpu,cpuacct:/user.slice
5:freezer:/
3:memory:/user.slice/a:b
1:name=systemd:/user.slice/user-0.slice/session-1.scope
"""
V1_MOUNTS = """\
30 24 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
33 30 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,cpu,cpuacct
35 30 0:31 / /sys/fs/cgroup/pids rw,nosuid shared:13 - cgroup cgroup rw,pids
36 30 0:32 / /sys/fs/cgroup/freezer ro,nosuid shared:14 - cgroup cgroup rw,freezer
"""
HYBRID_CGROUP = V1_CGROUP + "0::/user.slice/user-0.slice/session-1.scope\n"
HYBRID_MOUNTS = V1_MOUNTS + "37 30 0:33 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"


def _found(cgroup: str, mounts: str) -> tuple[dict[str, str], list[str]]:
    hierarchies, reasons = locate(parse_memberships(cgroup), parse_mounts(mounts))
    return {",".join(sorted(one.controllers)) or "v2": one.directory for one in hierarchies}, reasons


def test_v2() -> None:
    assert layout_of(parse_mounts(V2_MOUNTS)) is Layout.V2
    own = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/duende.service"
    assert _found(V2_CGROUP, V2_MOUNTS) == ({"v2": own}, [])


def test_v1() -> None:
    assert layout_of(parse_mounts(V1_MOUNTS)) is Layout.V1
    assert _found(V1_CGROUP, V1_MOUNTS) == (
        {
            "pids": "/sys/fs/cgroup/pids/user.slice",
            "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/user.slice",
            "memory": "/sys/fs/cgroup/memory/user.slice/a:b",
            "name=systemd": "/sys/fs/cgroup/systemd/user.slice/user-0.slice/session-1.scope",
        },
        ["freezer: /sys/fs/cgroup/freezer is mounted read-only"],
    )


def test_hybrid() -> None:
    assert layout_of(parse_mounts(HYBRID_MOUNTS)) is Layout.HYBRID
    found, _ = _found(HYBRID_CGROUP, HYBRID_MOUNTS)
    assert found["v2"] == "/sys/fs/cgroup/unified/user.slice/user-0.slice/session-1.scope"
    assert found["pids"] == "/sys/fs/cgroup/pids/user.slice"


def _v2_mount(root: str, point: str = "/sys/fs/cgroup") -> str:
    return f"700 690 0:30 {root} {point} rw,nosuid - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/docker/abc", "/docker/abc", ""),  # a container without a cgroup namespace: its part is bound here
        ("/docker/abc/init", "/docker/abc", "/init"),
        ("/", "/", ""),  # a container with a cgroup namespace
        ("/", "/..", None),  # mounted before the namespace was made: it shows our parent, whose children have no name
        ("/../other", "/", None),  # moved out of our namespace's root
        ("/../other", "/..", "/other"),
        ("/", "/docker/abc", None),
        ("/docker/abcdef", "/docker/abc", None),  # a prefix of a name is not a parent
    ],
)
def test_nested_namespaces(path: str, root: str, below: str | None) -> None:
    found, reasons = _found(f"0::{path}\n", _v2_mount(root))
    if below is None:
        assert found == {}
        assert reasons == [f"v2: /sys/fs/cgroup shows {root}, but this process is in {path}"]
    else:
        assert found == {"v2": f"/sys/fs/cgroup{below}"}
        assert reasons == []


def test_the_mount_that_reaches_us_is_taken() -> None:
    mounts = _v2_mount("/elsewhere", "/mnt/other") + _v2_mount("/", "/mnt/with\\040space")
    assert _found("0::/a b\n", mounts) == ({"v2": "/mnt/with space/a b"}, [])


def test_a_deleted_cgroup_is_found_by_its_path() -> None:
    assert parse_memberships("0::/gone (deleted)\n")[0].path == "/gone"


def test_torn_lines_are_left_out() -> None:
    assert parse_memberships("\n7\n7:pids\n") == []
    assert parse_mounts("\n35 22 0:30 / /x rw\n35 22 - cgroup2\n") == []
    assert layout_of([]) is None


def test_no_cgroups_is_a_reason_and_no_error() -> None:
    assert CgroupBase.detect("", "") == (None, "no cgroup file system is mounted")


def test_an_unusable_machine_says_why_and_what_to_do(tmp_path: Path) -> None:
    base, reason = CgroupBase.detect("0::/x\n", _v2_mount("/", str(tmp_path)))
    assert base is None
    assert reason.startswith(f"no cgroup can be made (v2: {tmp_path}/x does not exist); run as root, or in a delegated")


def test_a_directory_we_may_not_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("cgroup.procs"))
    base, reason = CgroupBase.detect("0::/\n", _v2_mount("/", str(tmp_path)))
    assert base is None
    assert f"v2: {tmp_path}/cgroup.procs is not writable for us" in reason
