"""OSError becomes a PlatformError here, once. `errno_of` still gives the errno, `__cause__` the cause."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from duende.errors import (
    InvalidState,
    NotFound,
    NotSupported,
    PermissionDenied,
    PlatformError,
    PlatformIoError,
    ResourceLimit,
)

__all__ = ["errno_of", "translate", "translated"]

_KINDS: dict[int, type[PlatformError]] = {
    errno.ESRCH: NotFound,
    errno.ENOENT: NotFound,
    errno.ENODEV: NotFound,
    errno.EPERM: PermissionDenied,
    errno.EACCES: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EAGAIN: ResourceLimit,
    errno.ENOMEM: ResourceLimit,
    errno.EMFILE: ResourceLimit,
    errno.ENFILE: ResourceLimit,
    errno.ENOSPC: ResourceLimit,
    errno.EBUSY: InvalidState,
    errno.ENOTEMPTY: InvalidState,
    errno.EEXIST: InvalidState,
}
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EAFNOSUPPORT})


def translate(error: OSError, action: str) -> PlatformError:
    """Give the PlatformError for `error`; the message is `cannot ACTION: reason (ERRNO)`."""
    if error.errno in _UNSUPPORTED:
        result: PlatformError = NotSupported("this kernel", action)
    else:
        kind = _KINDS.get(error.errno or 0, PlatformIoError)
        name = errno.errorcode.get(error.errno or 0, "")
        reason = f"{os.strerror(error.errno)} ({name})" if error.errno else str(error)
        result = kind(f"cannot {action}: {reason}")
    result.__cause__ = error
    return result


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Run a block whose OSError leaves as a PlatformError with the OSError as its cause."""
    try:
        yield
    except OSError as error:
        raise translate(error, action) from error


def errno_of(error: BaseException | None) -> int | None:
    """Find the kernel's error number behind an exception of ours; None where there was none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return None if error is None else error.errno
