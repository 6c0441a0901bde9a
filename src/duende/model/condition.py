"""What one daemon waits for in another."""

from __future__ import annotations

import enum

__all__ = ["Condition"]


class Condition(enum.Enum):
    """What `after` waits for; `duende.core.fleet.condition_met` says exactly when each holds."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"
    HEALTHY = "healthy"
