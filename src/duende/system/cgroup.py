"""A cgroup for every instance: who belongs to it, end all of it, freeze it, limit it, learn when it is empty.

`CgroupBase` is where this process itself lives, in each hierarchy; below it an instance gets the directory
`duende-STACK/NAME.INSTANCE`, once in the hierarchy that ends processes (v2; else v1's freezer; else v1's pids or
systemd's) and once in each v1 hierarchy that its limits need. Moving the manager itself, or anybody else, is never
done.

A process with the right to do so (root) may leave its cgroup; then it is no longer part of the instance. All methods
are synchronous and take microseconds to milliseconds; only `kill` without `cgroup.kill` and `remove` may wait, with
bounds.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from duende.errors import InvalidState, NotSupported
from duende.model.limits import ResourceConfig
from duende.system import cgroup_kill, cgroup_limits
from duende.system.cgroup_detect import Hierarchy, Layout, layout_of, locate, parse_memberships, parse_mounts
from duende.system.cgroup_files import flat_keyed, pids_below, read_text, subtree
from duende.system.cgroup_watch import EmptyWatch
from duende.system.failure import translate, translated

__all__ = ["Cgroup", "CgroupBase", "Detected"]

_NAME_LIMIT_BYTES = 200  # NAME_MAX is 255; room for the prefix, the instance's number and its dot
# rmdir says EBUSY while the last process is still on its way out; there is no event for that on v1.
_REMOVE_RETRY_S = 0.002
_REMOVE_TRIES = 100
_CREATE_TRIES = 10  # against a neighbour that removes the stack's empty directory at the same time
_KILL_ORDER = ("freezer", "pids", "name=systemd")


class Detected(NamedTuple):
    """The base, or None with the reason; with a base, `reason` names hierarchies that can't be used (or is empty)."""

    base: CgroupBase | None
    reason: str


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One instance's directories; the first is the one that ends processes. A value: it may outlive them."""

    stack: str
    name: str
    instance: int
    directories: tuple[Hierarchy, ...]

    @property
    def procs_files(self) -> list[str]:
        """The files into each of which the child writes its process id (or 0) before it executes the program."""
        return [f"{one.directory}/cgroup.procs" for one in self.directories]

    def pids(self) -> list[int]:
        """Every process, nested cgroups included. A 0 is one outside our pid namespace."""
        with translated(f"list the processes of {self.name}"):
            return pids_below(self._main.directory)

    def is_empty(self) -> bool:
        """Tell whether no process is left; true also when the directory is gone."""
        if self._main.version == 1:
            return not self.pids()
        try:
            return flat_keyed(read_text(f"{self._main.directory}/cgroup.events")).get("populated") == 0
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return True
            raise translate(error, f"see whether {self.name} has processes") from error

    def signal(self, number: int) -> None:
        """Send a signal to every process that is listed now; one that forks meanwhile may be missed (see `kill`)."""
        with translated(f"signal the processes of {self.name}"):
            cgroup_kill.signal_all(self._main.directory, number)

    def kill(self) -> bool:
        """SIGKILL everything, also what is frozen or stopped.

        True: nothing can survive, though the last may still be on its way out (watch for empty). False: the tree could
        not be frozen and forked faster than it died, or holds processes outside our pid namespace; call again. May wait
        up to 0.25 s for the freezer and 0.2 s for rounds, where there is no `cgroup.kill`.
        """
        main = self._main
        with translated(f"kill the processes of {self.name}"):
            if main.version == 2:
                return cgroup_kill.kill_v2(main.directory)
            if "freezer" in main.controllers:
                return cgroup_kill.kill_by_freezing(main.directory, 1)
            return cgroup_kill.kill_by_rounds(main.directory)

    def freeze(self) -> None:
        """Begin to stand still; `is_frozen` tells when all do. NotSupported without a freezer."""
        with translated(f"freeze {self.name}"):
            cgroup_kill.freeze(self._freezer("freeze"), self._main.version)

    def thaw(self) -> None:
        """Go on, nested cgroups too."""
        with translated(f"thaw {self.name}"):
            cgroup_kill.thaw(self._freezer("thaw"), self._main.version)

    def is_frozen(self) -> bool:
        """Tell whether every process stands still."""
        with translated(f"see whether {self.name} is frozen"):
            return cgroup_kill.is_frozen(self._freezer("freeze"), self._main.version)

    def empty_event_fd(self) -> int | None:
        """Open `cgroup.events`: POLLPRI when the subtree becomes empty or populated; read it first to arm it.

        It is always readable besides, so for asyncio take `watch_empty`. None on v1: its only notice (`release_agent`)
        is one program for the whole machine. There, wait on pidfds of `pids()` and look again when they end.
        """
        if self._main.version == 1:
            return None
        with translated(f"watch {self.name}"):
            return os.open(f"{self._main.directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def watch_empty(self) -> EmptyWatch | None:
        """A watch whose descriptor is readable when emptiness may have changed; None on v1 (see `empty_event_fd`)."""
        fd = self.empty_event_fd()
        return None if fd is None else EmptyWatch(fd)

    def apply_limits(self, resources: ResourceConfig) -> list[str]:
        """Set the limits; returns `FIELD: reason` for each that is not (fully) enforced. None and 0 set nothing.

        `memory_swap_bytes` is swap beyond `memory_bytes`. I/O limits hold for each disk by itself.
        """
        with translated(f"limit {self.name}"):
            return cgroup_limits.apply(self.directories, resources)

    def oom_kills(self) -> int | None:
        """How often the kernel killed a process of the subtree for want of memory; None where nothing counts it.

        On v1 nested cgroups count for themselves, so one that was removed takes its count along.
        """
        with translated(f"count the out-of-memory kills of {self.name}"):
            for one in self.directories:
                if "memory" not in one.controllers:
                    continue
                nested = subtree(one.directory) if one.version == 1 else [one.directory]
                file = "memory.oom_control" if one.version == 1 else "memory.events"
                counts = [_count(f"{path}/{file}", "oom_kill") for path in nested]
                known = [count for count in counts if count is not None]
                if known:
                    return sum(known)
        return None

    def remove(self) -> None:
        """Remove the directories, nested ones too, and the stack's when this was the last. Gone already is fine.

        InvalidState when processes are left after 0.2 s; whatever could be removed then is.
        """
        failed: OSError | None = None
        for one in self.directories:
            for path in subtree(one.directory):
                failed = _remove(path) or failed
            _remove_if_empty(os.path.dirname(one.directory))
        if failed is not None:
            raise translate(failed, f"remove the cgroup {failed.filename} of {self.name}") from failed

    def to_json(self) -> dict[str, Any]:
        """The form a handle stores."""
        places = [
            {"version": one.version, "controllers": sorted(one.controllers), "directory": one.directory}
            for one in self.directories
        ]
        return {"stack": self.stack, "name": self.name, "instance": self.instance, "directories": places}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cgroup:
        """Undo `to_json`; the directories need not exist any more."""
        places = tuple(
            Hierarchy(one["version"], frozenset(one["controllers"]), one["directory"]) for one in data["directories"]
        )
        return cls(data["stack"], data["name"], data["instance"], places)

    @property
    def _main(self) -> Hierarchy:
        return self.directories[0]

    def _freezer(self, operation: str) -> str:
        if self._main.version == 1 and "freezer" not in self._main.controllers:
            raise NotSupported("cgroup v1 without a freezer", operation)
        return self._main.directory


@dataclass(frozen=True, slots=True)
class CgroupBase:
    """Our own cgroup in each hierarchy that we may make directories in."""

    hierarchies: tuple[Hierarchy, ...]
    layout: Layout

    @classmethod
    def detect(cls, cgroup_text: str | None = None, mountinfo_text: str | None = None) -> Detected:
        """Find our own cgroups; the texts default to those of /proc/self. A machine without any is no error."""
        try:
            memberships = parse_memberships(read_text("/proc/self/cgroup") if cgroup_text is None else cgroup_text)
            mounts = parse_mounts(read_text("/proc/self/mountinfo") if mountinfo_text is None else mountinfo_text)
        except FileNotFoundError as error:
            return Detected(None, f"there are no cgroups here: no {error.filename}")
        layout = layout_of(mounts)
        if layout is None:
            return Detected(None, "no cgroup file system is mounted")
        found, reasons = locate(memberships, mounts)
        usable = []
        for one in found:
            if reason := _why_unusable(one):
                reasons.append(reason)
            else:
                usable.append(_with_controllers(one))
        if not usable:
            hint = "run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes)"
            return Detected(None, f"no cgroup can be made ({'; '.join(reasons)}); {hint}")
        return Detected(cls(tuple(usable), layout), "; ".join(reasons))

    @property
    def kill_hierarchy(self) -> Hierarchy:
        """The hierarchy that ends processes: v2, else v1's freezer, pids, systemd's, else any."""
        for one in self.hierarchies:
            if one.version == 2:
                return one
        for controller in _KILL_ORDER:
            for one in self.hierarchies:
                if controller in one.controllers:
                    return one
        return self.hierarchies[0]

    def create(self, stack: str, name: str, instance: int, resources: ResourceConfig | None = None) -> Cgroup:
        """Make the directories of an instance; with `resources`, also those its limits need. Limits are not set yet.

        InvalidState when the instance has a cgroup already; ValueError for a name that can't be a directory's.
        """
        _check_name("stack", stack)
        _check_name("daemon", name)
        below = f"duende-{stack}/{name}.{instance}"
        directories: list[Hierarchy] = []
        try:
            for one in self._needed(resources):
                target = replace(one, directory=f"{one.directory}/{below}")
                _make(target.directory)
                directories.append(target)
        except OSError as error:
            for made in directories:
                _remove_if_empty(made.directory)
                _remove_if_empty(os.path.dirname(made.directory))
            if error.errno == errno.EEXIST:
                raise InvalidState(f"cannot make a cgroup for {name}: {error.filename} exists already") from error
            raise translate(error, f"make a cgroup for {name} ({error.filename})") from error
        return Cgroup(stack, name, instance, tuple(directories))

    def list_existing(self, stack: str) -> list[Cgroup]:
        """The instances of a stack that have directories below this base, sorted: to adopt or to clear away."""
        kill = self.kill_hierarchy
        found: dict[str, list[Hierarchy]] = {}
        for one in sorted(self.hierarchies, key=lambda each: each is not kill):
            parent = f"{one.directory}/duende-{stack}"
            try:
                entries = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
            except FileNotFoundError:
                continue
            except OSError as error:
                raise translate(error, f"list {parent}") from error
            for entry in entries:
                found.setdefault(entry, []).append(replace(one, directory=f"{parent}/{entry}"))
        result = []
        for entry, directories in found.items():
            name, _, number = entry.rpartition(".")
            if name and number.isdigit():
                result.append(Cgroup(stack, name, int(number), tuple(directories)))
        return sorted(result, key=lambda one: (one.name, one.instance))

    def _needed(self, resources: ResourceConfig | None) -> Iterable[Hierarchy]:
        wanted = cgroup_limits.controllers_for(resources) if resources else frozenset()
        wanted = wanted | {"blkio"} if "io" in wanted else wanted
        kill = self.kill_hierarchy
        yield kill
        for one in self.hierarchies:
            # v2 with a controller of the same name comes along only as the kill hierarchy, which it always is.
            if one is not kill and one.controllers & wanted:
                yield one


def _why_unusable(one: Hierarchy) -> str:
    name = ",".join(sorted(one.controllers)) or "v2"
    for path in (one.directory, f"{one.directory}/cgroup.procs"):
        if not os.path.exists(path):
            return f"{name}: {path} does not exist"
        if not os.access(path, os.W_OK):
            return f"{name}: {path} is not writable for us"
    return ""


def _with_controllers(one: Hierarchy) -> Hierarchy:
    if one.version == 1:
        return one
    return replace(one, controllers=frozenset(read_text(f"{one.directory}/cgroup.controllers").split()))


def _check_name(what: str, name: str) -> None:
    if not name or any(character in name for character in "/\0\n") or len(os.fsencode(name)) > _NAME_LIMIT_BYTES:
        limit = f"1 to {_NAME_LIMIT_BYTES} bytes without '/', newline and NUL"
        raise ValueError(f"cannot make a cgroup: the {what} name {name!r} is not {limit}")


def _make(directory: str) -> None:
    for attempt in range(_CREATE_TRIES):
        try:
            os.makedirs(os.path.dirname(directory), exist_ok=True)
            os.mkdir(directory)
            return
        except FileNotFoundError:
            if attempt == _CREATE_TRIES - 1:
                raise


def _remove(path: str) -> OSError | None:
    for _ in range(_REMOVE_TRIES):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                return error
            last = error
            time.sleep(_REMOVE_RETRY_S)
        else:
            return None
    return last


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError as error:
        # Others live in it (EBUSY, ENOTEMPTY), or somebody was quicker (ENOENT). It is an empty directory at worst.
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
            raise translate(error, f"remove {path}") from error


def _count(path: str, key: str) -> int | None:
    try:
        return flat_keyed(read_text(path)).get(key)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # removed meanwhile, or the controller is not switched on
            return None
        raise
