"""Where a worker keeps its state and where its settings can be read again: told by the manager, guessed without one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from duende.errors import StateError
from duende.model.signals import Signal

__all__ = ["Places"]

_FOREGROUND = "foreground"  # in place of a stack's name


@dataclass(frozen=True, slots=True)
class Places:
    """Text that is empty stands for what nobody has told."""

    state_dir: str = ""  # of this daemon alone; made when it is first needed
    config_file: str = ""  # the stack's, with its `conf.d` beside it
    config_read: str = ""  # when the manager has read it: boot id and seconds of the boot-time clock
    settings: Mapping[str, Any] = field(default_factory=dict)  # that the manager has told
    layers: Mapping[str, str] = field(default_factory=dict)  # the manager's DUENDE_DAEMON__… variables
    overrides: Mapping[str, Any] = field(default_factory=dict)  # settings given in code, laid over those of the file
    reload_signal: Signal = Signal.HUP
    name: str = ""  # where there is no manager

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Places:
        """Read them from a worker's specification; an older manager says nothing."""
        return cls(
            state_dir=str(data.get("state_dir") or ""),
            config_file=str(data.get("config_file") or ""),
            config_read=str(data.get("config_read") or ""),
            settings=dict(data.get("settings") or {}),
            layers={str(name): str(value) for name, value in (data.get("layers") or {}).items()},
            reload_signal=Signal(int(data.get("reload_signal") or Signal.HUP)),
        )

    def state_file(self) -> str:
        """The file of `ctx.state`; its directory is made. StateError when there is no place for it."""
        folder = self.state_dir
        if not folder and self.name:
            from duende.config.paths import stack_paths  # here: only in the foreground, and only if used

            folder = f"{stack_paths(_FOREGROUND).state_dir}/daemons/{self.name}"
        if not folder:
            reason = "the manager has told no state directory, and the user it runs as has no home"
            raise StateError(f"there is no place for ctx.state: {reason}; use duende.worker.state.StateFile(path)")
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot make the directory of ctx.state, {folder}: {error.strerror}") from error
        return f"{folder}/state.db"
