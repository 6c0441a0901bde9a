"""The facts of the machine that figures depend on: a figure without them means nothing.

python -m bench.machine
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["ROOT", "facts"]

ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, str]:
    """What to write beside every figure; nothing that names the machine or its owner."""
    memory_kib = int(_line("/proc/meminfo", "MemTotal").split()[0])
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "processor": _line("/proc/cpuinfo", "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kib / 1024 / 1024:.1f} GiB",
        "virtual machine": "yes" if "hypervisor" in _line("/proc/cpuinfo", "flags").split() else "no",
        "kernel": f"{platform.system()} {platform.release()}",
        "C library": " ".join(platform.libc_ver()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "cgroups": _cgroups(),
        "temporary files on": _filesystem(tempfile.gettempdir()),
        "load before (1, 5, 15 min)": load,
        "duende": _revision(),
    }


def _line(path: str, key: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return "unknown"


def _cgroups() -> str:
    from duende.system.cgroup import CgroupBase  # here: what duende itself would use

    base, reason = CgroupBase.detect()
    return (
        f"version {base.kill_hierarchy.version} ends processes; {base.layout.value}"
        if base is not None
        else f"none ({reason})"
    )


def _filesystem(path: str) -> str:
    """The type of the mount that holds `path` (proc_pid_mountinfo(5))."""
    best, found = "", "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            point = left.split()[4]
            inside = os.path.commonpath([path, point]) == point
            if inside and len(point) >= len(best):
                best, found = point, right.split()[0]
    return found


def _revision() -> str:
    try:
        git = ["git", "-C", str(ROOT)]
        revision = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "no git revision"
    return revision.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


if __name__ == "__main__":
    json.dump(facts(), sys.stdout, indent=2)
    print()
