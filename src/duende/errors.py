"""The whole exception tree: one root, then split by whose fault it is.

`ConfigurationError` is the caller's file or arguments, `DaemonError` is the caller's request at this moment,
`PlatformError` is the platform's answer. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

__all__ = [
    "AlreadyRunning",
    "ConfigError",
    "ConfigurationError",
    "DaemonError",
    "DuendeError",
    "InvalidState",
    "ManagerRunning",
    "NotFound",
    "NotSupported",
    "OperationTimeout",
    "PermissionDenied",
    "PlatformError",
    "PlatformIoError",
    "Problem",
    "ResourceLimit",
    "ShuttingDown",
    "SignalFailed",
    "SpawnFailed",
    "StateError",
    "StatusFailed",
    "TracerFailed",
    "UnknownDaemon",
    "UnknownHook",
]


class DuendeError(Exception):
    """Root of every error that duende raises on purpose."""


class Problem:
    """One thing that is wrong in a configuration: where, what, why, and what to do."""

    __slots__ = ("file", "hint", "key", "line", "reason")

    def __init__(self, reason: str, *, file: str = "", line: int = 0, key: str = "", hint: str = "") -> None:
        self.reason = reason
        self.file = file
        self.line = line  # 1-based; 0 where there is no line (an environment variable, a flag)
        self.key = key
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (where, self.key, self.reason) if part)
        return f"{text} ({self.hint})" if self.hint else text

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class ConfigurationError(DuendeError):
    """A configuration that can't be used; carries all problems that were found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class DaemonError(DuendeError):
    """A request that can't be done now: cannot X: reason."""

    kind = "daemon-error"


class UnknownDaemon(DaemonError):
    """No daemon of that name in this stack."""

    kind = "unknown-daemon"


class UnknownHook(DaemonError):
    """No hook of that name in this stack."""

    kind = "unknown-hook"


class AlreadyRunning(DaemonError):
    """A start of what runs already."""

    kind = "already-running"


class ManagerRunning(DaemonError):
    """A manager of this stack runs already; there is one per stack."""

    kind = "manager-running"


class ShuttingDown(DaemonError):
    """The manager is stopping everything (`duende down`); nothing is started any more."""

    kind = "shutting-down"


class StateError(DuendeError):
    """The state store can't be read, or is of a newer schema than this version knows."""


class PlatformError(DuendeError):
    """A platform refused or failed. `is_recoverable` says whether trying again later can help."""

    is_not_supported = False
    is_recoverable = False


class NotSupported(PlatformError):
    """The platform lacks the operation; never a silent no-op."""

    is_not_supported = True

    def __init__(self, platform: object, operation: str) -> None:
        super().__init__(f"{operation} is not supported on {platform}")
        self.platform = platform
        self.operation = operation


class SpawnFailed(PlatformError):
    """No instance came to be. `errno` and `path` say why, where the kernel told."""

    def __init__(self, message: str, *, errno: int | None = None, stage: str = "", path: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.stage = stage
        self.path = path


class SignalFailed(PlatformError):
    """A signal could not be delivered."""


class StatusFailed(PlatformError):
    """The platform could not say how the instance is."""


class TracerFailed(PlatformError):
    """A tracer could not be attached."""


class NotFound(PlatformError):
    """The instance is not there (any more)."""


class InvalidState(PlatformError):
    """The operation does not fit the instance's present state."""

    is_recoverable = True


class OperationTimeout(PlatformError):
    """The platform did not answer in time."""

    is_recoverable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


class PlatformIoError(PlatformError):
    """Talking to the platform failed."""


class ConfigError(PlatformError):
    """The configuration can't be expressed on this platform."""


class ResourceLimit(PlatformError):
    """A limit of the machine was reached (EAGAIN, ENOMEM, EMFILE)."""

    is_recoverable = True


class PermissionDenied(PlatformError):
    """The platform says we may not."""
