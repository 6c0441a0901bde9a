"""F014: a daemon runs once, however often and from wherever it is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import DUENDE, Stack

ROUNDS = 10
AT_ONCE = 4


def instances(stack: Stack) -> list[int]:
    """The processes of the daemon, found by its own word in their command line and not by the manager's."""
    needle = str(stack.folder / "the-daemon").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if needle in argv and argv[0].endswith(b"sh"):
                found.append(int(entry.name))
    return found


def at_once(stack: Stack, *argv: str) -> list[tuple[int, str]]:
    """Run the same command several times at the same moment."""
    processes = [
        subprocess.Popen(
            [*DUENDE, *argv], cwd=stack.folder, env=stack.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(AT_ONCE)
    ]  # fmt: skip
    return [(process.returncode, out) for process in processes for out in [process.communicate(timeout=60)[0]]]


@pytest.mark.claim("F014")
def test_a_second_start_is_refused(stack: Stack, claim_figure) -> None:
    program = stack.file("the-daemon", "while :; do sleep 1000; done\n")
    stack.write(f'[daemon.web]\ncommand = ["sh", "{program}"]\n')

    # Two managers of one stack from several processes at once: one instance, whoever of them has won.
    outcomes = at_once(stack, "up", "-d", "--no-restarter")
    assert [code for code, _ in outcomes].count(0) >= 1
    assert all(code == 0 or "runs already" in said for code, said in outcomes), outcomes
    assert len(instances(stack)) == 1
    claim_figure("managers refused at once", sum(code != 0 for code, _ in outcomes), "")

    # Once more, while it runs.
    (pid,) = instances(stack)
    again = stack.run("start", "web")
    assert again.returncode == 1
    assert "web  failed  running: is running already" in again.stdout
    assert f"native:pid{pid}" in again.stdout
    assert stack.run("start", "web", "--no-wait").returncode == 1
    assert stack.run("up", "-d", "web").returncode == 0  # `up` means: let it be so
    assert stack.run("start", "w*").returncode == 0  # and a pattern: those that do not run
    assert instances(stack) == [pid]

    # The first starts from several processes at once: exactly one of them may have started it.
    for _ in range(ROUNDS):
        assert stack.run("stop", "web").returncode == 0
        assert instances(stack) == []
        outcomes = at_once(stack, "start", "web")
        assert sorted(code for code, _ in outcomes) == [0] + [1] * (AT_ONCE - 1), outcomes
        assert all("already" in said for code, said in outcomes if code)
        assert len(instances(stack)) == 1
    claim_figure("starts at once", ROUNDS * AT_ONCE, "")

    # A second manager in the foreground asks the first, and one that does not see it is stopped by the lock.
    assert stack.run("up", "-d").returncode == 0
    code = (
        "import asyncio; from duende.config.load import load_stack; from duende.runtime.manager import DaemonManager\n"
        "asyncio.run(DaemonManager(load_stack('duende.toml')).open())"
    )
    lone = subprocess.run(
        [DUENDE[0], "-c", code],
        cwd=stack.folder,
        env=stack.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert lone.returncode == 1
    assert "ManagerRunning" in lone.stderr
    assert len(instances(stack)) == 1
