"""Where a daemon stands, and why it failed."""

from __future__ import annotations

import enum

__all__ = ["DaemonStatus", "FailureReason"]


class DaemonStatus(enum.Enum):
    """The states of the lifecycle; the transitions are the table in `duende.core.lifecycle`."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    BACKOFF = "backoff"
    FAILED = "failed"

    @property
    def has_instance(self) -> bool:
        """Whether an incarnation may exist on the platform in this state."""
        return self in _WITH_INSTANCE


_WITH_INSTANCE = frozenset({DaemonStatus.STARTING, DaemonStatus.RUNNING, DaemonStatus.PAUSED, DaemonStatus.STOPPING})


class FailureReason(enum.Enum):
    """Why duende gave up on a daemon."""

    EXITED = "exited"  # its policy says not to start it again after this exit
    PERMANENT_EXIT = "permanent exit code"  # an exit code that no retry can mend
    MAX_RETRIES = "max retries"
    CRASH_LIMIT = "crash limit"  # too many failures inside the window
    NOT_EXECUTABLE = "not executable"  # exec(2) refused for a reason that stays
    REFUSED = "refused"  # refused before the start (bad user, missing directory …)
