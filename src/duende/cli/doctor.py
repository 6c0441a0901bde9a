"""`duende doctor`: has this machine what duende needs? Each finding is tried out, not guessed from versions.

`ok` works; `warn` works with less, and says what is lost; `fail` keeps daemons from being run as promised.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NamedTuple

from duende.api.client import ApiError, ManagerSilent, NoManager
from duende.cli import exits
from duende.cli.options import Stack, parse, verb_parser
from duende.cli.output import Paint, printable, write, write_json
from duende.errors import ConfigurationError, PlatformError

__all__ = ["Finding", "main", "parser"]

_FILES_WANTED = 4096  # some six descriptors per daemon: enough for several hundred
_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


class Finding(NamedTuple):
    """One thing looked at; `advice` is empty when all is well."""

    what: str
    level: str
    found: str
    advice: str = ""


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    return verb_parser(
        "doctor",
        "Look whether this machine has what duende needs, by trying it out, and say what to do where it has not.",
        """
        doctor
        doctor --json
        """,
    )


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    findings = examine(options)
    if options.json:
        ok = all(one.level != "fail" for one in findings)
        write_json({"ok": ok, "findings": [one._asdict() for one in findings]})
    else:
        paint = Paint(no_color=options.no_color)
        width = max(len(one.what) for one in findings)
        for one in findings:
            write(f"{paint(one.level.ljust(4), _COLORS[one.level])}  {one.what.ljust(width)}  {printable(one.found)}")
            if one.advice:
                write(f"      {' ' * width}  -> {printable(one.advice)}")
    return exits.FAILED if any(one.level == "fail" for one in findings) else exits.OK


def examine(options: argparse.Namespace) -> list[Finding]:
    """All findings, the machine's first."""
    findings = [_python(), _kernel(), _pidfd(), _exit_status_of_strangers(), _subreaper(), _cgroup(), *_open_files()]
    try:
        stack = Stack.of(options)
    except ConfigurationError as error:
        return [*findings, Finding("stack", "warn", str(error), "run this where duende.toml is to look at a stack too")]
    return [*findings, *_directories(stack), _manager(stack)]


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("Python", "ok", f"{version}, {sys.executable}")


def _kernel() -> Finding:
    system = os.uname()
    found = f"{system.sysname} {system.release}"
    if system.sysname != "Linux":
        return Finding("kernel", "fail", found, "daemons of platform native need Linux")
    return Finding("kernel", "ok", found)


def _pidfd() -> Finding:
    from duende.system.process import pidfd_open

    try:
        os.close(pidfd_open(os.getpid()))
    except PlatformError as error:
        return Finding("pidfd", "fail", str(error), "Linux 5.3 or newer is needed; in a container, its seccomp profile")
    return Finding("pidfd", "ok", "signals can't reach a stranger that got a recycled process id")


def _exit_status_of_strangers() -> Finding:
    """Fork a child that exits with 42, reap it, and ask the pidfd how it ended."""
    from duende.system.process import exit_status_of, pidfd_open

    lost = "if manager and keeper die at once, later exits of their daemons are seen but their codes are not known"
    child = os.fork()
    if child == 0:
        os._exit(42)
    try:
        pidfd = pidfd_open(child)
    except PlatformError as error:
        os.waitpid(child, 0)
        return Finding("PIDFD_GET_INFO", "warn", str(error), lost)
    try:
        os.waitpid(child, 0)
        status = exit_status_of(pidfd)
    except PlatformError as error:
        return Finding("PIDFD_GET_INFO", "warn", str(error), lost)
    finally:
        os.close(pidfd)
    if status is None:
        return Finding("PIDFD_GET_INFO", "warn", "the kernel does not tell exit statuses (Linux 6.15 does)", lost)
    return Finding("PIDFD_GET_INFO", "ok", "exit statuses are known even of processes that are not our children")


def _subreaper() -> Finding:
    from duende.system.process import set_child_subreaper

    try:
        set_child_subreaper(True)
        set_child_subreaper(False)
    except PlatformError as error:
        return Finding("child subreaper", "warn", str(error), "daemons that fork into the background can be lost")
    return Finding("child subreaper", "ok", "daemons that fork into the background stay ours")


def _cgroup() -> Finding:
    """Make a cgroup as for a daemon, and remove it."""
    from duende.system.cgroup import CgroupBase

    detected = CgroupBase.detect()
    without = "without cgroups limits are not enforced, and a daemon's children that hide from it may survive its stop"
    if detected.base is None:
        return Finding("cgroup", "warn", detected.reason, without)
    try:
        made = detected.base.create(f"doctor-{os.getpid()}", "probe", 1)
        made.remove()
    except PlatformError as error:
        return Finding("cgroup", "warn", str(error), without)
    base = detected.base
    known = set().union(*(one.controllers for one in base.hierarchies))
    controllers = ", ".join(sorted(one for one in known if not one.startswith("name="))) or "none"
    found = f"{base.layout.value}, below {base.kill_hierarchy.directory}; limits by: {controllers}"
    if controllers == "none":
        return Finding("cgroup", "warn", found, "no controller is delegated to us, so limits are not enforced")
    return Finding("cgroup", "ok", found)


def _open_files() -> list[Finding]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} (hard {'unlimited' if hard == resource.RLIM_INFINITY else hard})"
    if hard != resource.RLIM_INFINITY and hard < _FILES_WANTED:
        return [Finding("open files", "warn", found, f"raise the hard limit to {_FILES_WANTED} for many daemons")]
    return [Finding("open files", "ok", found)]


def _directories(stack: Stack) -> list[Finding]:
    from duende.config.paths import stack_paths

    paths = stack_paths(stack.name)
    return [_directory("runtime directory", paths.runtime_dir), _directory("state directory", paths.state_dir)]


def _directory(what: str, path: str) -> Finding:
    from duende.config.paths import make_private

    if os.path.lexists(path):
        try:
            make_private(path)  # it is there, so this only looks
        except ConfigurationError as error:
            return Finding(what, "fail", error.problems[0].reason + f": {path}", error.problems[0].hint)
        return Finding(what, "ok", path)
    above = path
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.access(above, os.W_OK | os.X_OK):
        advice = "set DUENDE_RUNTIME_DIR and DUENDE_STATE_DIR to directories of yours"
        return Finding(what, "fail", f"{path} can't be made: {above} is not writable", advice)
    return Finding(what, "ok", f"{path} (will be made)")


def _manager(stack: Stack) -> Finding:
    from duende.config.paths import stack_paths

    what = f"manager of {stack.name}"
    try:
        manager = stack.client.get("/v1/status")["manager"]
    except NoManager as error:
        if error.is_forbidden:
            return Finding(what, "fail", str(error), "run as the user who owns it")
        if os.path.exists(stack_paths(stack.name).keeper_socket):
            advice = "`duende up -d` takes over whatever it keeps running"
            return Finding(what, "warn", "none runs, but a keeper's socket is there", advice)
        return Finding(what, "ok", "none runs")
    except (ManagerSilent, ApiError) as error:
        return Finding(what, "fail", str(error), "look at its log; daemons live on if it is killed and started again")
    if manager["keeper_pid"] is None:
        advice = "it is started again with the next daemon; if not, look at the manager's log"
        return Finding(what, "warn", f"process {manager['pid']}, without keeper", advice)
    found = f"process {manager['pid']}, keeper {manager['keeper_pid']}, version {manager['version']}"
    return Finding(what, "ok", found)
