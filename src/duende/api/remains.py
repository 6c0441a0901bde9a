"""What a manager left behind when it died: the daemons of its state database that the kernel says are still alive.

Nobody supervises them until another manager takes them over. What is told here is what can be known without one: a
process is the same if its id, its start time and the boot are. How one ended is known to the keeper only, and it tells
the next manager.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duende.config.paths import StackPaths
from duende.model.status import DaemonStatus
from duende.runtime.store import Record, peek
from duende.system.clock import boottime_s
from duende.system.process import Identity, boot_id, has_exited, open_identified

__all__ = ["remains"]

_UNSUPERVISED = "alive, but nothing supervises it: no manager runs"
_NOT_TOLD = "alive; its manager does not answer"
_ENDED = "ended, and no manager has told how; the next one learns it from the keeper"

_ENDED_BY_BOOT = "ended with the machine, which was started anew"


def remains(paths: StackPaths, names: Sequence[str] = (), *, is_supervised: bool = False) -> list[dict[str, Any]]:
    """All daemons of the stack, or those that `names` and globs mean, in the form of `status`.

    With `alive` besides; null where only a manager could know, so the `status` of one that ended
    unseen. `is_supervised`: a manager has them, but can't be asked.
    StateError when the database can't be read.
    """
    records = peek(Path(paths.state_db))
    text = _NOT_TOLD if is_supervised else _UNSUPERVISED
    return [_daemon(record, text) for name, record in records.items() if not names or _is_meant(name, names)]


def _is_meant(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, form) for pattern in patterns for form in (pattern, f"{pattern}.[0-9]*"))


def _daemon(record: Record, text: str) -> dict[str, Any]:
    state = record.state
    had_instance = DaemonStatus(state["status"]).has_instance
    data = record.handle["data"] if record.handle and had_instance else {}
    alive = _lives(data)
    is_unclear = had_instance and not alive and data.get("boot_id", boot_id()) == boot_id()
    started_s = state["started_s"]
    exit_info = state["exit"]
    return {
        "name": record.name,
        "id": record.id,
        "status": None if is_unclear else state["status"] if alive or not had_instance else "stopped",
        "alive": alive,
        "ready": None if had_instance else False,
        "health": None,
        "platform": record.extra.get("platform", "native"),
        "handle": f"native:pid{data['pid']}" if alive else None,
        "pid": data["pid"] if alive else None,
        "restarts": state["restarts"],
        "uptime_s": round(boottime_s() - started_s, 3) if alive and started_s is not None else 0.0,
        "exit": {key: exit_info.get(key) for key in ("reason", "code", "signal", "message", "at_s")}
        if exit_info and not had_instance
        else None,
        "next_start_s": None,
        "restart_owner": "duende",
        "wanted": state["wanted"],
        "waiting_for": [],
        "message": text if alive else _ENDED if is_unclear else _ENDED_BY_BOOT if had_instance else "",
        "limits_not_enforced": [],
        "children": {},
        "log_tail": [],
    }


def _lives(data: dict[str, Any]) -> bool:
    if not {"pid", "start_ticks", "boot_id"} <= data.keys():
        return False
    pidfd = open_identified(Identity(data["pid"], data["start_ticks"], data["boot_id"]))
    if pidfd is None:
        return False
    try:
        return not has_exited(pidfd)
    finally:
        os.close(pidfd)
