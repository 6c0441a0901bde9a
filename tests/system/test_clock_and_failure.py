"""Clocks agree with the machine; every OSError becomes the fitting PlatformError with its cause."""

from __future__ import annotations

import errno
import os
import time

import pytest

from duende import errors
from duende.system import clock
from duende.system.failure import errno_of, translate, translated


def test_the_clocks_are_the_machines_own() -> None:
    system: clock.Clock = clock.SystemClock()
    with open("/proc/uptime") as file:
        uptime_s = float(file.read().split()[0])
    assert abs(system.boottime_s() - uptime_s) < 1
    assert abs(system.wall_s() - time.time()) < 1
    first = system.monotonic_s()
    assert 0 <= system.monotonic_s() - first < 1


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ESRCH, errors.NotFound),
        (errno.ENOENT, errors.NotFound),
        (errno.EACCES, errors.PermissionDenied),
        (errno.EROFS, errors.PermissionDenied),
        (errno.EMFILE, errors.ResourceLimit),
        (errno.EBUSY, errors.InvalidState),
        (errno.EIO, errors.PlatformIoError),
    ],
)
def test_each_errno_has_its_error(number: int, kind: type[errors.PlatformError]) -> None:
    cause = OSError(number, "whatever")
    error = translate(cause, "do it")
    assert type(error) is kind
    assert str(error).startswith("cannot do it: ")
    assert errno.errorcode[number] in str(error)
    assert errno_of(error) == number
    assert error.__cause__ is cause


def test_a_kernel_that_can_not_is_not_supported() -> None:
    error = translate(OSError(errno.ENOSYS, ""), "freeze")
    assert isinstance(error, errors.NotSupported)
    assert errno_of(error) == errno.ENOSYS


def test_a_block_is_translated_and_other_errors_pass() -> None:
    with pytest.raises(errors.NotFound) as caught:
        with translated("open it"):
            os.stat("/nonexistent/file")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(ZeroDivisionError):
        with translated("divide"):
            print(1 // 0)
    assert errno_of(ZeroDivisionError()) is None
    assert errno_of(None) is None
