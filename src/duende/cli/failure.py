"""From an exception to what the user reads on stderr, and to the exit code."""

from __future__ import annotations

import sys

from duende.api.client import ApiError, ManagerSilent, NoManager
from duende.cli import exits
from duende.cli.output import printable
from duende.errors import ConfigurationError, DuendeError, ManagerRunning, UnknownDaemon

__all__ = ["UsageError", "tell"]

_CODE_OF_KIND = {
    "unknown-daemon": exits.NO_SUCH_DAEMON,
    "timeout": exits.TIMED_OUT,
    "foreign-user": exits.PERMISSION,
    "permission-denied": exits.PERMISSION,
    "invalid-request": exits.USAGE,
    "ambiguous-name": exits.USAGE,
    "configuration": exits.USAGE,
}


class UsageError(DuendeError):
    """The command line asks for something that can't be meant."""


def tell(error: Exception) -> int:
    """Say what went wrong and return the exit code. What nobody raises on purpose is shown with its traceback."""
    if isinstance(error, ConfigurationError):
        lines = [printable(str(problem)) for problem in error.problems]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines)} problems:")
        return _say("\n".join(lines), exits.USAGE)
    if isinstance(error, UsageError):
        return _say(str(error), exits.USAGE)
    if isinstance(error, NoManager):
        return _say(str(error), exits.PERMISSION if error.is_forbidden else exits.NO_MANAGER)
    if isinstance(error, ManagerSilent):
        return _say(str(error), exits.NO_MANAGER)
    if isinstance(error, ApiError):
        return _say(str(error), _CODE_OF_KIND.get(error.kind, exits.FAILED))
    if isinstance(error, UnknownDaemon):
        return _say(str(error), exits.NO_SUCH_DAEMON)
    if isinstance(error, (DuendeError, ManagerRunning)):
        return _say(str(error), exits.FAILED)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        code = exits.PERMISSION if isinstance(error, PermissionError) else exits.FAILED
        return _say(f"{name}{error.strerror or error}", code)
    import traceback

    sys.stderr.write("duende: a bug in duende; please report it with this:\n" + traceback.format_exc())
    return exits.FAILED


def _say(text: str, code: int) -> int:
    first, *rest = text.split("\n")
    sys.stderr.write("\n".join([f"duende: {printable(first)}", *(printable(line) for line in rest)]) + "\n")
    return code
