"""Pure: from a configuration to the keeper's spawn specification, and from the keeper's answers to our words."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duende
from duende.adapters.native.users import Account
from duende.config.daemon import DaemonConfig
from duende.errors import PlatformError, PlatformIoError, ResourceLimit, SpawnFailed
from duende.model.exits import ExitInfo, ExitReason
from duende.model.handle import DaemonHandle
from duende.model.ids import DaemonId
from duende.system.cgroup import Cgroup
from duende.system.process import boot_id

__all__ = [
    "MARKER",
    "environment",
    "exit_info",
    "failed_start",
    "spawn_error",
    "spawn_spec",
    "worker_spec",
    "zygote_argv",
]

MARKER = (
    "DUENDE_INSTANCE_ID"  # in the environment of every process of an instance; finds strays where there is no cgroup
)

# Set for the manager by whoever supervises *it*; a daemon that inherited them would speak to the wrong supervisor.
_NOT_INHERITED = frozenset({
    "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID",
    "JOURNAL_STREAM", "MAINPID", "MANAGERPID",
})  # fmt: skip

# waitid(2): si_code of SIGCHLD, asm-generic/siginfo.h
_CLD_EXITED = 1
_CLD_DUMPED = 3

# What another try may mend by itself: too many processes, no memory, no descriptors, a file that is just being
# replaced.
_TRANSIENT = frozenset({"EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "ETXTBSY", "EINTR", "ENOSPC", "EBUSY", "EPIPE", "EIO"})


def environment(
    config: DaemonConfig,
    id: DaemonId,
    instance: int,
    base: Mapping[str, str],
    account: Account,
    notify_path: Path | None,
) -> dict[str, str]:
    """The complete environment of an instance: the manager's (not in clean mode), the user's, the configured one,
    ours.
    """
    env: dict[str, str] = {}
    if not config.clean_env:
        env.update(
            (name, value)
            for name, value in base.items()
            if name not in _NOT_INHERITED and not name.startswith("DUENDE_")
        )
    env.update(account.environment)
    env.update(config.env)
    env["DUENDE_DAEMON"] = config.name
    env["DUENDE_DAEMON_ID"] = str(id)
    env[MARKER] = f"{id}.{instance}"
    if config.may_notify and notify_path is not None:
        env["NOTIFY_SOCKET"] = str(notify_path)
        if config.watchdog is not None:  # WATCHDOG_PID is added by the child itself
            env["WATCHDOG_USEC"] = str(round(config.watchdog.timeout * 1e6))
    return env


def spawn_spec(
    config: DaemonConfig, id: DaemonId, env: dict[str, str], account: Account, *, cgroup_procs: list[str],
    worker: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the keeper needs (see duende/keeper/child.py); `worker` is added to what a Python class is told."""
    rlimits: dict[str, tuple[int, int]] = {}
    if config.resources.open_files_max:
        rlimits["NOFILE"] = (config.resources.open_files_max, config.resources.open_files_max)
    if config.resources.core_size_bytes:
        rlimits["CORE"] = (config.resources.core_size_bytes, config.resources.core_size_bytes)
    spec: dict[str, Any] = {
        "env": env,
        "cwd": str(config.working_dir) if config.working_dir else "/",
        "umask": config.umask,
        "nice": config.nice,
        "uid": account.uid,
        "gid": account.gid,
        "groups": account.groups,
        "rlimits": rlimits,
        "cgroup_procs": cgroup_procs,
    }
    if config.daemon is None:
        assert config.command is not None
        return {**spec, "argv": list(config.command), "ready_fd": config.ready.fd}
    root = _package_root()
    code = f"import sys; sys.path.insert(0, {root!r}); from duende.worker.__main__ import main; main()"
    spec["memfiles"] = {"DUENDE_WORKER_SPEC_FD": json.dumps({**worker_spec(config, id), **(worker or {})})}
    return {**spec, "argv": [sys.executable, "-c", code], "control": True, "zygote": not _needs_cold_start(config)}


def _needs_cold_start(config: DaemonConfig) -> bool:
    """Most PYTHON… variables are read once, by a new interpreter: the warm one has already read its own."""
    warm = ("PYTHONPATH", "PYTHONUNBUFFERED")  # the worker acts on the first itself, and writes lines at once anyway
    return any(name.startswith("PYTHON") and name not in warm for name in config.env)


def worker_spec(config: DaemonConfig, id: DaemonId) -> dict[str, Any]:
    """What the worker of a Python class is told (duende/worker/spec.py)."""
    folder = str(config.working_dir) if config.working_dir else "/"
    search = [entry for entry in config.env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {
        "target": config.daemon,
        "name": config.name,
        "id": str(id),
        "settings": dict(config.settings),
        "shutdown_timeout_s": config.stop_limit,
        "sys_path": [*search, *_source_folders(config), folder],
        "config": {
            "name": config.name,
            "version": config.version,
            "description": config.description,
            "config_path": str(config.config_path) if config.config_path else None,
            "working_dir": folder,
            "env": dict(config.env),
            "user": config.user,
            "group": config.group,
            "replicas": config.replicas,
            "instance": config.instance,
        },
    }


def _source_folders(config: DaemonConfig) -> list[str]:
    """The folder of the configuration file: a class beside its `duende.toml` is found whatever the working
    directory.
    """
    file, colon, _ = config.source.rpartition(":")
    folder = os.path.dirname(file if colon else config.source)
    return [folder] if folder else []


def zygote_argv() -> list[str]:
    """The warm process; it finds this very duende without help from the environment."""
    code = f"import sys; sys.path.insert(0, {_package_root()!r}); from duende.worker.zygote import main; main()"
    return [sys.executable, "-c", code]


def zygote_environment(base: Mapping[str, str]) -> dict[str, str]:
    """As little as possible: /proc/PID/environ of a warm instance shows the zygote's environment, not its own."""
    return {name: base[name] for name in ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ") if name in base}


def _package_root() -> str:
    assert duende.__file__ is not None
    return str(Path(duende.__file__).parents[1])


def note(
    config: DaemonConfig, id: DaemonId, marker: str, cgroup: Cgroup | None, gaps: list[str], *, awaits_ready: bool
) -> dict[str, Any]:
    """What the keeper keeps for a manager that knows nothing of the instance (`handle` reads it)."""
    return {
        "id": str(id), "kill_mode": config.kill_mode.value, "marker": marker,
        "cgroup": cgroup.to_json() if cgroup else None, "memory_limit": config.resources.memory_bytes, "gaps": gaps,
        "awaits_ready": awaits_ready,
    }  # fmt: skip


def handle(pid: int, start_ticks: int, note: Mapping[str, Any]) -> DaemonHandle:
    """The handle of an instance by what the keeper says of it."""
    return DaemonHandle.native(
        DaemonId.parse(note["id"]), pid, start_ticks=start_ticks, boot_id=boot_id(), kill_mode=note["kill_mode"],
        marker=note["marker"], cgroup=note["cgroup"], memory_limit=note["memory_limit"],
    )  # fmt: skip


def exit_info(code: int, status: int, *, at_s: float, oom_kills: int = 0, memory_limit: int | None = None) -> ExitInfo:
    """waitid's (si_code, si_status) in words. A SIGKILL while the kernel counted out-of-memory kills was one of
    them.
    """
    if code == _CLD_EXITED:
        return ExitInfo.from_code(status, at_s=at_s)
    if status == 9 and oom_kills > 0:
        return ExitInfo.out_of_memory(limit_bytes=memory_limit, at_s=at_s)
    return ExitInfo.from_signal(status, core_dumped=code == _CLD_DUMPED, at_s=at_s)


def spawn_error(error: Mapping[str, Any], config: DaemonConfig) -> PlatformError:
    """The keeper's {stage, errno, path} as an exception that says what to do."""
    import errno as names  # here: only needed when something went wrong

    number, stage, path = int(error["errno"]), str(error["stage"]), str(error["path"])
    name = names.errorcode.get(number, str(number))
    words = os.strerror(number)
    match stage:
        case "exec":
            text = f"cannot execute {path!r}: {words} ({name}){_exec_hint(number, path, config)}"
        case "cwd":
            text = f"cannot enter the working directory {path!r}: {words} ({name})"
        case "user" | "group" | "groups":
            who = config.user or config.group
            text = f"cannot run as {who!r}: {words} ({name}); only root may change users"
        case "nice":
            text = f"cannot set nice {path}: {words} ({name}); values below the present one need root or CAP_SYS_NICE"
        case "rlimit":
            text = (
                f"cannot set the limit {path}: {words} ({name}); a hard limit can't be raised without CAP_SYS_RESOURCE"
            )
        case "ready fd":
            text = f"cannot give it descriptor {path}: {words} ({name}); open_files_max must be larger"
        case "fork" | "pipe" | "pidfd" | "zygote":
            text = f"cannot start a process ({stage}): {words} ({name}); it is tried again later"
        case _:
            text = f"cannot start: {stage}: {words} ({name}) {path}".rstrip()
    if name in _TRANSIENT:
        failure: PlatformError = ResourceLimit(text)
        failure.__cause__ = OSError(number, words)
        return failure
    return SpawnFailed(text, errno=number, stage=stage, path=path)


def _exec_hint(number: int, path: str, config: DaemonConfig) -> str:
    import errno as names

    program = config.command[0] if config.command else path
    if number == names.ENOENT and "/" not in program:
        return f"; it is not in PATH={config.env.get('PATH', os.environ.get('PATH', ''))}"
    if number == names.ENOENT and os.path.exists(path):
        return "; the file is there, so the interpreter in its first line (#!) or its dynamic loader is not"
    if number == names.EACCES:
        return "; it is not executable for this user (chmod +x, or a directory above is closed, or noexec)"
    if number == names.ENOEXEC:
        return "; it is neither a program nor a script whose first line names its interpreter (#!/bin/sh)"
    if number == names.E2BIG:
        return (
            "; the environment and arguments are larger than the kernel allows "
            "(128 KiB each string, a quarter of the stack limit in all)"
        )
    return ""


def failed_start(error: PlatformError, *, at_s: float) -> ExitInfo:
    """A failed spawn as the exit that the core decides on."""
    number = getattr(error, "errno", None)
    if isinstance(error, SpawnFailed) and error.stage == "exec":
        return ExitInfo(ExitReason.ERROR, str(error), errno=number, at_s=at_s)
    if error.is_recoverable or isinstance(error, PlatformIoError):
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        return ExitInfo(ExitReason.ERROR, str(error), errno=number, at_s=at_s, transient=True)
    return ExitInfo(ExitReason.POLICY_VIOLATION, str(error), at_s=at_s)
