"""Fixtures for all tests, and the proof that nothing is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Stack

# A shell's background job begins with these ignored, and every process that a test starts would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.fixture
def make_stack() -> Iterator[Callable[..., Stack]]:
    """Make stacks that are ended with the test, whatever happens."""
    made: list[Stack] = []

    def make(toml: str = "", name: str = "") -> Stack:
        made.append(Stack(toml, name))
        return made[-1]

    yield make
    for stack in made:
        stack.close()


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    """One stack; write its configuration with `stack.write`."""
    return make_stack()


def _traces() -> set[str]:
    """What a test must not leave: processes of ours, cgroups, mounts, temporary folders."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environ = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            marker = b"DUENDE_RUNTIME_DIR=" + os.fsencode(tempfile.gettempdir()) + b"/dt-%d-" % os.getpid()
            if marker in environ:
                found.add(f"process {entry}: {command[:200]}")
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        ours = [name for name in folders if name.startswith(f"duende-t{os.getpid()}-")]
        found.update(f"cgroup {os.path.join(top, name)}" for name in ours)
    with open("/proc/self/mounts") as file:
        found.update(f"mount {line.split()[1]}" for line in file if f"/dt-{os.getpid()}-" in line)
    found.update(f"folder {path}" for path in Path(tempfile.gettempdir()).glob(f"dt-{os.getpid()}-*"))
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Look at the machine before and after the whole run; only what bears this run's process id counts."""
    before = _traces()
    yield
    left = _traces() - before
    assert not left, "left behind: " + "; ".join(sorted(left))


@pytest.hookimpl(hookwrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Whatever uses a stack starts real processes."""
    for item in items:
        if {"stack", "make_stack"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)
    yield
