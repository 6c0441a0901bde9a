"""Errors on the wire: RFC 9457 problem details, and which exception becomes which."""

from __future__ import annotations

import logging
from http import HTTPStatus

from duende import errors
from duende.api.types import ProblemDetails

__all__ = ["CONTENT_TYPE", "HttpProblem", "problem_of"]

CONTENT_TYPE = "application/problem+json"

_log = logging.getLogger("duende.api")


class HttpProblem(errors.DuendeError):
    """An answer that is an error; `headers` go with it, `closes` says that the connection can't be used any more."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        problems: tuple[str, ...] = (),
        closes: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.problems = problems
        self.closes = closes

    def details(self, instance: str) -> ProblemDetails:
        """The body of the answer; `instance` is the request's path."""
        title = HTTPStatus(self.status).phrase
        details: ProblemDetails = {
            "type": f"urn:duende:problem:{self.kind}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "kind": self.kind,
        }
        if instance:
            details["instance"] = instance
        if self.problems:
            details["problems"] = list(self.problems)
        return details


# The first that matches counts, so subclasses come before their bases.
_STATUS_OF: tuple[tuple[type[errors.DuendeError], int, str], ...] = (
    (errors.UnknownDaemon, 404, ""),
    (errors.UnknownHook, 404, ""),
    (errors.DaemonError, 409, ""),
    (errors.ConfigurationError, 422, "configuration"),
    (errors.NotSupported, 501, "not-supported"),
    (errors.NotFound, 404, "instance-not-found"),
    (errors.InvalidState, 409, "invalid-state"),
    (errors.PermissionDenied, 403, "permission-denied"),
    (errors.OperationTimeout, 504, "timeout"),
    (errors.ResourceLimit, 503, "resource-limit"),
    (errors.PlatformError, 502, "platform"),
    (errors.StateError, 500, "state"),
)


def problem_of(error: Exception) -> HttpProblem:
    """Translate what a handler raised. What nobody raises on purpose is logged with its traceback and becomes a 500."""
    if isinstance(error, HttpProblem):
        return error
    for kind_of_error, status, kind in _STATUS_OF:
        if isinstance(error, kind_of_error):
            problems: tuple[str, ...] = ()
            if isinstance(error, errors.ConfigurationError):
                problems = tuple(str(problem) for problem in error.problems)
            return HttpProblem(status, kind or getattr(error, "kind", "daemon-error"), str(error), problems=problems)
    _log.error("cannot answer a request: %s: %s", type(error).__name__, error, exc_info=error)
    detail = f"a bug in the manager: {type(error).__name__}: {error}; its log has the traceback"
    return HttpProblem(500, "internal-error", detail)
