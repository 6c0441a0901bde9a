"""What a hook is configured to be: which events it gets, and what is done with them. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["HookConfig", "OnFailureConfig"]


@dataclass(frozen=True, slots=True)
class HookConfig:
    """One `[[hook]]`. Exactly one of `command`, `webhook`, `entry_point`, `start` is set."""

    name: str
    on: tuple[str, ...] = ()  # kinds of events and globs over them (model/eventkinds.py)
    daemons: tuple[str, ...] = ()  # names and globs; empty: all, and the manager's own events too
    command: tuple[str, ...] | None = None
    webhook: str | None = None
    entry_point: str | None = None
    start: str | None = None  # a daemon
    secret_file: Path | None = None  # of the webhook's signature
    timeout: float = 10.0  # seconds for one attempt
    give_up_after: float | None = None  # seconds of trying; None: an hour for a webhook, one attempt for the others
    source: str = ""  # file:line of the table, for messages

    @property
    def patience_s(self) -> float:
        """How long a delivery is tried again after its first attempt."""
        if self.give_up_after is not None:
            return self.give_up_after
        return 3600.0 if self.webhook else 0.0


@dataclass(frozen=True, slots=True)
class OnFailureConfig:
    """A daemon's `on_failure`: done once when it has finally failed. Exactly one of `start` and `command` is set."""

    start: str | None = None
    command: tuple[str, ...] | None = None
    timeout: float = 30.0

    def hook_for(self, name: str, source: str) -> HookConfig:
        """The same as a hook; its name can't be that of a `[[hook]]`."""
        return HookConfig(
            f"on_failure:{name}", ("failed",), (name,), command=self.command, start=self.start, timeout=self.timeout,
            source=source,
        )  # fmt: skip
