"""Where our own cgroups are: /proc/self/cgroup and /proc/self/mountinfo, read by pure functions.

A machine has one of three layouts (cgroups(7)): v1 with a hierarchy per controller, v2 with one for all, or hybrid: v1
for controllers and v2 beside it, with few or none. A container may see only a part of each hierarchy (a bind mount
whose root is below ours) or a renamed one (a cgroup namespace); what it can't reach is reported, not guessed.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

__all__ = ["Hierarchy", "Layout", "Membership", "Mount", "layout_of", "locate", "parse_memberships", "parse_mounts"]


class Layout(enum.Enum):
    """Which generation of cgroups is mounted."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Membership:
    """One line of /proc/PID/cgroup. v2 has no controllers here; a named v1 hierarchy has `name=…` for one."""

    version: int
    controllers: frozenset[str]
    path: str


@dataclass(frozen=True, slots=True)
class Mount:
    """One cgroup file system: which part of the hierarchy (`root`) is seen where (`mount_point`)."""

    version: int
    options: frozenset[str]
    root: str
    mount_point: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A directory in one hierarchy: our own cgroup, or an instance's. `controllers` are those it can limit with."""

    version: int
    controllers: frozenset[str]
    directory: str


def parse_memberships(text: str) -> list[Membership]:
    """Parse /proc/PID/cgroup: lines of `ID:CONTROLLERS:PATH`, where the path may hold colons."""
    found = []
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator:
            continue
        path = path.removesuffix(" (deleted)")
        if number == "0" and not controllers:
            found.append(Membership(2, frozenset(), path))
        else:
            found.append(Membership(1, frozenset(controllers.split(",")), path))
    return found


def parse_mounts(text: str) -> list[Mount]:
    """Parse the cgroup lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)); others are left out."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 3 or tail[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(tail[2].split(","))
        found.append(
            Mount(
                version=2 if tail[0] == "cgroup2" else 1,
                options=options,
                root=_unescape(fields[3]),
                mount_point=_unescape(fields[4]),
                read_only="ro" in fields[5].split(",") or "ro" in options,
            )
        )
    return found


def layout_of(mounts: list[Mount]) -> Layout | None:
    """Name the layout; None when no cgroup file system is mounted."""
    versions = {mount.version for mount in mounts}
    if versions == {1, 2}:
        return Layout.HYBRID
    if not versions:
        return None
    return Layout.V2 if versions == {2} else Layout.V1


def locate(memberships: list[Membership], mounts: list[Mount]) -> tuple[list[Hierarchy], list[str]]:
    """Find our own cgroup's directory in every mounted hierarchy, and the reasons where it can't be reached."""
    found: list[Hierarchy] = []
    reasons: list[str] = []
    for membership in memberships:
        candidates = [mount for mount in mounts if _shows(mount, membership)]
        if not candidates:
            continue
        name = ",".join(sorted(membership.controllers)) or "v2"
        writable = [mount for mount in candidates if not mount.read_only]
        if not writable:
            reasons.append(f"{name}: {candidates[0].mount_point} is mounted read-only")
            continue
        directories = [path for mount in writable if (path := _own_directory(mount, membership.path)) is not None]
        if directories:
            found.append(Hierarchy(membership.version, membership.controllers, directories[0]))
        else:
            root = writable[0].root
            reasons.append(f"{name}: {writable[0].mount_point} shows {root}, but this process is in {membership.path}")
    return found, reasons


def _shows(mount: Mount, membership: Membership) -> bool:
    return mount.version == membership.version and membership.controllers <= mount.options


def _own_directory(mount: Mount, path: str) -> str | None:
    """The directory of cgroup `path` under `mount`; None where the mount doesn't reach it."""
    root = mount.root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return None
    below = path[len(root) :].strip("/")
    if ".." in below.split("/"):  # we were moved out of our namespace's root: no directory of this mount is ours
        return None
    base = mount.mount_point.rstrip("/")
    return f"{base}/{below}" if below else base


def _unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
