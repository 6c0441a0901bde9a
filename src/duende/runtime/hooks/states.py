"""What is known of each hook's deliveries: for `duende hooks` and `status`, and for the next manager."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from duende.config.hook import HookConfig
from duende.runtime.hooks.webhook import shown_url

__all__ = ["HookState", "action_of"]


def action_of(hook: HookConfig) -> tuple[str, str]:
    """What a hook does, and with what, in words that hold no secret."""
    if hook.command is not None:
        return "command", hook.command[0]
    if hook.webhook is not None:
        return "webhook", shown_url(hook.webhook)
    if hook.entry_point is not None:
        return "entry_point", hook.entry_point
    return "start", hook.start or ""


@dataclass(slots=True)
class HookState:
    """One hook. `is_failing` was told as an alert, and ends with the next delivery."""

    last_delivery: Mapping[str, Any] | None = None  # seq, time, text
    last_error: Mapping[str, Any] | None = None
    delivered: int = 0
    given_up: int = 0
    is_failing: bool = False
    next_try_s: float | None = None  # on the monotonic clock, while it waits between two attempts
    is_trying: bool = False

    def to_json(self) -> str:
        """What outlives the manager."""
        return json.dumps({
            "last_delivery": self.last_delivery, "last_error": self.last_error, "delivered": self.delivered,
            "given_up": self.given_up, "is_failing": self.is_failing,
        })  # fmt: skip

    @classmethod
    def from_json(cls, text: str | None) -> HookState:
        """Undo `to_json`."""
        return cls(**json.loads(text)) if text else cls()

    def report(self, hook: HookConfig, undelivered: int, now_s: float) -> dict[str, Any]:
        """The wire form."""
        action, target = action_of(hook)
        return {
            "name": hook.name, "on": list(hook.on), "daemons": list(hook.daemons), "action": action, "target": target,
            "source": hook.source, "undelivered": undelivered, "delivered": self.delivered, "given_up": self.given_up,
            "failing": self.is_failing, "last_delivery": self.last_delivery, "last_error": self.last_error,
            "next_try_s": None if self.next_try_s is None else round(max(self.next_try_s - now_s, 0.0), 3),
        }  # fmt: skip
