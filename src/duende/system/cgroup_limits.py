"""Limits of a cgroup: which file gets which text (pure), and writing them. What isn't enforced is said.

On v2 a controller must be switched on in every cgroup above (`cgroup.subtree_control`), which the kernel forbids in one
that holds processes itself. The cgroup above an instance's is ours; the one above that is the manager's own, and nobody
is moved out of it here: then the limit is reported as not enforced.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from duende.model.limits import ResourceConfig
from duende.system.cgroup_detect import Hierarchy
from duende.system.cgroup_files import read_text, write_text

__all__ = ["LimitWrite", "apply", "block_devices", "controllers_for", "plan"]

_CPU_PERIOD_US = 100_000  # the kernel's default
_CPU_PERIOD_LONG_US = 1_000_000  # the kernel's greatest
_CPU_QUOTA_LEAST_US = 1_000  # kernel/sched/core.c, min_cfs_quota_period
_V1_NAMES = {"io": "blkio"}


@dataclass(frozen=True, slots=True)
class LimitWrite:
    """One text for one file, and the field of ResourceConfig that wants it."""

    field: str
    file: str
    text: str


def controllers_for(resources: ResourceConfig) -> frozenset[str]:
    """The controllers that the limits need, by their v2 names (`io` is `blkio` on v1)."""
    needed = set()
    if resources.memory_bytes or resources.memory_swap_bytes:
        needed.add("memory")
    if resources.cpu_quota_percent or resources.cpu_shares:
        needed.add("cpu")
    if resources.pids_max:
        needed.add("pids")
    if resources.io_read_bps or resources.io_write_bps:
        needed.add("io")
    return frozenset(needed)


def plan(controller: str, version: int, resources: ResourceConfig, devices: list[str]) -> list[LimitWrite]:
    """What to write for one controller, in the order to write it. `devices` are the `MAJOR:MINOR` of whole disks."""
    match controller:
        case "memory":
            return _plan_memory(version, resources)
        case "cpu":
            return _plan_cpu(version, resources)
        case "pids":
            return [LimitWrite("pids_max", "pids.max", str(resources.pids_max))] if resources.pids_max else []
        case "io":
            return _plan_io(version, resources, devices)
        case _:
            raise ValueError(f"no limits are known for the cgroup controller {controller!r}")


def apply(directories: tuple[Hierarchy, ...], resources: ResourceConfig) -> list[str]:
    """Write the limits of an instance's cgroup; returns `FIELD: reason` for each one that is not (fully) enforced."""
    missing: list[str] = []
    for controller in sorted(controllers_for(resources)):
        home = _home(directories, controller)
        fields = sorted({write.field for write in plan(controller, 2, resources, ["0:0"])})
        if home is None:
            missing.extend(f"{field}: no cgroup controller '{controller}' is available here" for field in fields)
            continue
        if home.version == 2 and (reason := _enable(home.directory, controller)):
            missing.extend(f"{field}: {reason}" for field in fields)
            continue
        devices = block_devices() if controller == "io" else []
        if controller == "io" and not devices:
            missing.extend(f"{field}: there is no disk to limit" for field in fields)
        for write in plan(controller, home.version, resources, devices):
            missing.extend(_write(home.directory, write))
        missing.extend(_known_gaps(controller, home.version, resources))
    return missing


def block_devices() -> list[str]:
    """`MAJOR:MINOR` of every whole disk with a medium, save loop and ram disks (others, or memory, are behind them)."""
    found = []
    try:
        names = sorted(os.listdir("/sys/block"))
    except FileNotFoundError:
        return []
    for name in names:
        if name.startswith(("loop", "ram", "zram")):
            continue
        try:
            if int(read_text(f"/sys/block/{name}/size")) > 0:
                found.append(read_text(f"/sys/block/{name}/dev").strip())
        except FileNotFoundError:
            continue  # unplugged meanwhile
    return found


def _plan_memory(version: int, resources: ResourceConfig) -> list[LimitWrite]:
    memory, swap = resources.memory_bytes or 0, resources.memory_swap_bytes or 0
    writes = []
    if memory:
        file = "memory.max" if version == 2 else "memory.limit_in_bytes"
        writes.append(LimitWrite("memory_bytes", file, str(memory)))
    if swap and version == 2:
        writes.append(LimitWrite("memory_swap_bytes", "memory.swap.max", str(swap)))
    if swap and memory and version == 1:  # v1 limits the sum, and refuses one below the memory limit
        writes.append(LimitWrite("memory_swap_bytes", "memory.memsw.limit_in_bytes", str(memory + swap)))
    return writes


def _plan_cpu(version: int, resources: ResourceConfig) -> list[LimitWrite]:
    writes = []
    if percent := resources.cpu_quota_percent:
        period_us = _CPU_PERIOD_US
        if percent / 100 * period_us < _CPU_QUOTA_LEAST_US:  # below 1 %: the quota stays, the period grows
            period_us = _CPU_PERIOD_LONG_US
        quota_us = max(_CPU_QUOTA_LEAST_US, round(percent / 100 * period_us))
        if version == 2:
            writes.append(LimitWrite("cpu_quota_percent", "cpu.max", f"{quota_us} {period_us}"))
        else:
            writes.append(LimitWrite("cpu_quota_percent", "cpu.cfs_period_us", str(period_us)))
            writes.append(LimitWrite("cpu_quota_percent", "cpu.cfs_quota_us", str(quota_us)))
    if shares := resources.cpu_shares:
        if version == 2:  # 2-262144 onto 1-10000, as OCI runtimes do (crun.1, "CPU controller")
            writes.append(LimitWrite("cpu_shares", "cpu.weight", str(1 + (shares - 2) * 9999 // 262142)))
        else:
            writes.append(LimitWrite("cpu_shares", "cpu.shares", str(shares)))
    return writes


def _plan_io(version: int, resources: ResourceConfig, devices: list[str]) -> list[LimitWrite]:
    writes = []
    for device in devices:
        for field, limit_bps, key in (
            ("io_read_bps", resources.io_read_bps, "read"),
            ("io_write_bps", resources.io_write_bps, "write"),
        ):
            if not limit_bps:
                continue
            if version == 2:
                writes.append(LimitWrite(field, "io.max", f"{device} {key[0]}bps={limit_bps}"))
            else:
                writes.append(LimitWrite(field, f"blkio.throttle.{key}_bps_device", f"{device} {limit_bps}"))
    return writes


def _known_gaps(controller: str, version: int, resources: ResourceConfig) -> list[str]:
    """What the kernel accepts and doesn't do, or what has no file at all."""
    gaps = []
    if version == 1 and controller == "memory" and resources.memory_swap_bytes and not resources.memory_bytes:
        gaps.append("memory_swap_bytes: cgroup v1 limits swap only together with memory; set memory_bytes too")
    if version == 1 and controller == "io" and resources.io_write_bps:
        gaps.append("io_write_bps: only in part: cgroup v1 limits direct and synchronous writes, not buffered ones")
    if controller == "cpu" and resources.cpu_quota_percent and resources.cpu_quota_percent < 0.1:
        gaps.append(f"cpu_quota_percent: {resources.cpu_quota_percent:g} is below the kernel's least, 0.1; that is set")
    return gaps


def _home(directories: tuple[Hierarchy, ...], controller: str) -> Hierarchy | None:
    """The directory that limits by `controller`: v1 where the controller is bound there, else v2."""
    for directory in directories:
        if directory.version == 1 and _V1_NAMES.get(controller, controller) in directory.controllers:
            return directory
    return next((one for one in directories if one.version == 2 and controller in one.controllers), None)


def _enable(directory: str, controller: str) -> str:
    """Switch a v2 controller on for an instance's cgroup; the empty string, or why it can't be."""
    ours = os.path.dirname(directory)
    for current in (os.path.dirname(ours), ours):
        try:
            if controller in read_text(f"{current}/cgroup.subtree_control").split():
                continue
            if controller not in read_text(f"{current}/cgroup.controllers").split():
                return f"the cgroup v2 controller '{controller}' is not available in {current}"
            # Only the real root has no cgroup.type, and only there processes may live beside controllers.
            if os.path.exists(f"{current}/cgroup.type") and read_text(f"{current}/cgroup.procs").strip():
                # Not even tried: with cpu or pids the kernel would accept, make it a threaded tree and then refuse
                # ours.
                return (
                    f"cgroup v2 can't switch the controller '{controller}' on in {current}, which holds processes; "
                    "start the manager in a leaf of a delegated one (systemd: Delegate=yes, DelegateSubgroup=manager)"
                )
            write_text(f"{current}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            return f"cannot switch on the cgroup v2 controller '{controller}' in {current}: {error.strerror}"
    return ""


def _write(directory: str, write: LimitWrite) -> list[str]:
    try:
        write_text(f"{directory}/{write.file}", write.text)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return [f"{write.field}: this kernel has no {write.file}"]
        return [f"{write.field}: cannot write {write.text!r} to {write.file}: {error.strerror}"]
    return []
