"""`duende.run` and `python -m duende.worker TARGET`: the same life, in a terminal's process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

import duende
from tests.worker.conftest import PATIENCE_S, SRC

pytestmark = pytest.mark.real


def _start(*argv: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": SRC, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def _script(tmp_path, body: str, call: str = "duende.run(D(), settings={'port': 1})") -> str:
    path = tmp_path / "app.py"
    path.write_text(
        f"import asyncio, sys, time\nimport duende\n{body}\nif __name__ == '__main__':\n    sys.exit({call})\n"
    )
    return str(path)


WAITS = """
class D(duende.Daemon):
    {kind} init(self, config): print("init", dict(config.settings), self.name)
    {kind} run(self, ctx): print("running"); {wait}; print("stopped")
"""


@pytest.mark.parametrize(("kind", "wait"), [("def", "ctx.wait_shutdown()"), ("async def", "await ctx.wait_shutdown()")])
def test_a_class_in_main_runs_until_ctrl_c(tmp_path, kind, wait):
    with _start(_script(tmp_path, WAITS.format(kind=kind, wait=wait))) as process:
        assert process.stdout.readline() == "init {'port': 1} D\n"
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.parametrize("run", ["async def run(self, ctx): {}", "def run(self, ctx): {}"])
@pytest.mark.parametrize("body", ["print('in'); time.sleep(1000)"])
def test_a_second_ctrl_c_ends_it_at_once_even_when_it_blocks(tmp_path, run, body):
    source = f"class D(duende.Daemon):\n    {run.format(body)}\n"
    with _start(_script(tmp_path, source)) as process:
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)  # two that are pending at once count as one
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        process.communicate()
    assert process.returncode == 130


def test_an_init_failure_shows_its_traceback(tmp_path):
    source = (
        "class D(duende.Daemon):\n    def init(self, config): raise ValueError('no')\n    def run(self, ctx): pass\n"
    )
    with _start(_script(tmp_path, source)) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "ValueError: no" in err
    assert "Traceback" in err


def test_the_module_runs_a_target_with_settings(tmp_path):
    path = _script(
        tmp_path,
        "class D(duende.Daemon):\n"
        "    def init(self, config): self.x = config.settings\n"
        "    def run(self, ctx): print(self.x)\n",
    )
    with _start("-m", "duende.worker", f"{path}:D", "--settings", '{"a": 1}') as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "{'a': 1}\n", "")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [((), 2, "usage:"), (("x:Y",), 125, "cannot import x"), (("x:Y", "--settings", "3"), 2, "object")],
)
def test_what_can_not_be_run_is_said(argv, code, words):
    with _start("-m", "duende.worker", *argv) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert words in err


class Quick(duende.Daemon):
    def run(self, ctx):
        self.metrics().record_request()


def test_it_returns_the_code_and_puts_everything_back():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    descriptors = len(os.listdir("/proc/self/fd"))
    daemon = Quick()
    assert duende.run(daemon) == 0
    assert duende.run(daemon) == 0
    assert daemon.metrics().snapshot().requests_total == 2
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_is_no_instance_is_refused():
    with pytest.raises(TypeError, match=r"write duende.run\(Quick\(\)\)"):
        duende.run(Quick)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not 3"):
        duende.run(3)  # type: ignore[arg-type]


def test_a_thread_or_a_running_loop_is_refused():
    errors: list[str] = []

    def attempt() -> None:
        try:
            duende.run(Quick())
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()

    async def inside() -> None:
        attempt()

    asyncio.run(inside())
    assert "main thread" in errors[0]
    assert "inside a running one" in errors[1]


def test_a_daemon_needs_neither_super_init_nor_a_mutable_instance():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Frozen(duende.Daemon):
        port: int = 1

        def run(self, ctx):
            assert self.port == 1

    class Named(Quick):
        name = "shop"

        def __init__(self, port: int = 1) -> None:
            self.port = port

    assert duende.run(Frozen()) == 0
    assert (Named().name, Quick().name) == ("shop", "Quick")
    assert Quick().id != Quick().id
