"""What a worker is told at its start: the JSON that the manager leaves in the descriptor `DUENDE_WORKER_SPEC_FD`.

Unknown keys are ignored: after an upgrade an older worker or zygote may serve a newer manager.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from duende.config.daemon import DaemonConfig
from duende.errors import ConfigurationError, Problem
from duende.model.ids import DaemonId
from duende.model.limits import ResourceConfig
from duende.worker.places import Places

__all__ = ["SPEC_VARIABLE", "WorkerSpec", "take_descriptor"]

SPEC_VARIABLE = "DUENDE_WORKER_SPEC_FD"

_READ_BYTES = 1024 * 1024
# The keys of `config` that become fields as they are, and those that need a type of their own.
_PLAIN = (
    "version", "description", "user", "group", "umask", "nice", "clean_env",
    "replicas", "instance", "platform", "source",
)  # fmt: skip
_PATHS = ("binary_path", "config_path", "working_dir", "pid_file")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Which class to run, as whom, with what."""

    target: str
    config: DaemonConfig
    id: DaemonId | None = None
    sys_path: tuple[str, ...] = ()
    places: Places = field(default_factory=Places)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WorkerSpec:
        """Build it from the wire form; ConfigurationError when a value can't be what it should."""
        try:
            target = str(data["target"])
            identity = data.get("id")
            return cls(
                target=target,
                config=_config(data, target),
                id=DaemonId(uuid.UUID(identity)) if identity else None,
                sys_path=tuple(str(folder) for folder in data.get("sys_path") or ()),
                places=Places.from_json(data),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"the worker's specification is not usable: {type(error).__name__}: {error}"
            raise ConfigurationError([Problem(reason, key="target" if "target" not in data else "")]) from error

    @classmethod
    def read(cls, fd: int) -> WorkerSpec:
        """Read it from the start of a descriptor, and close that; ConfigurationError when there is no usable JSON."""
        try:
            with os.fdopen(fd, "rb") as file:
                file.seek(0)
                chunks = list(iter(lambda: file.read(_READ_BYTES), b""))
            data = json.loads(b"".join(chunks))
            if not isinstance(data, dict):
                raise ValueError(f"expected an object, found {type(data).__name__}")
        except (OSError, ValueError) as error:
            reason = f"cannot read the worker's specification from descriptor {fd}: {error}"
            raise ConfigurationError([Problem(reason, key=SPEC_VARIABLE)]) from error
        return cls.from_json(data)


def take_descriptor(variable: str) -> int | None:
    """Take a descriptor's number out of the environment and keep the daemon's children from inheriting it.

    None when the variable is not set; ConfigurationError when it names no open descriptor.
    """
    text = os.environ.pop(variable, None)
    if text is None:
        return None
    try:
        fd = int(text)
        os.set_inheritable(fd, False)
    except (OSError, ValueError) as error:
        reason = f"{text!r} is not an open descriptor: {error}"
        problem = Problem(reason, key=variable, hint="duende sets it; don't set it by hand")
        raise ConfigurationError([problem]) from error
    return fd


def _config(data: Mapping[str, Any], target: str) -> DaemonConfig:
    given: Mapping[str, Any] = data.get("config") or {}
    values: dict[str, Any] = {key: given[key] for key in _PLAIN if given.get(key) is not None}
    values |= {key: Path(given[key]) for key in _PATHS if given.get(key) is not None}
    known = {one.name for one in fields(ResourceConfig)}
    resources = {key: value for key, value in (given.get("resources") or {}).items() if key in known}
    return DaemonConfig(
        name=str(data.get("name") or given.get("name") or target.rpartition(":")[2]),
        daemon=target,
        settings=MappingProxyType(dict(data.get("settings") or given.get("settings") or {})),
        args=tuple(given.get("args") or ()),
        env=MappingProxyType(dict(given.get("env") or {})),
        resources=ResourceConfig(**resources),
        shutdown_timeout=float(data.get("shutdown_timeout_s", given.get("shutdown_timeout", 10.0))),
        **values,
    )
