"""How a daemon is asked to end: step by step, until the kernel ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from duende.model.signals import Signal

__all__ = ["StopStep"]


@dataclass(frozen=True, slots=True)
class StopStep:
    """One rung of a stop ladder: a signal or a command, and how many seconds it has before the next one comes.

    A command runs as the daemon does, with its process id in `MAINPID`; when it fails the next step comes at once.
    """

    signal: Signal | None = None
    command: tuple[str, ...] = ()
    wait_s: float = 10.0

    def __str__(self) -> str:
        return self.signal.full_name if self.signal else " ".join(self.command)

    def to_json(self) -> dict[str, Any]:
        """For `status --json` and the like."""
        return {"signal": self.signal.full_name if self.signal else None, "command": list(self.command) or None,
                "wait_s": self.wait_s}  # fmt: skip
