"""Tasks, children, state and reloads in real processes: what the manager is told, what a kill does."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

COUNTER = """
class D(duende.Daemon):
    async def run(self, ctx):
        n = ctx.state.get("a", 0)
        assert n == -ctx.state.get("b", 0), dict(ctx.state)
        print("found", n)
        while True:
            async with ctx.state.transaction() as t:
                t["a"] = n = n + 1
                t["filler"] = "x" * (n % 50) * 1000
                t["b"] = -n
            print("kept", n)
"""
BLOCKING_COUNTER = COUNTER.replace("async def", "def").replace("async with", "with")


def _last(text: str, word: str) -> int:
    """The last whole line's number."""
    lines = [line for line in text.split("\n")[:-1] if line.startswith(word)]
    return int(lines[-1].split()[1]) if lines else 0


@pytest.mark.parametrize("source", [COUNTER, BLOCKING_COUNTER], ids=["async", "blocking"])
def test_sigkill_in_the_midst_loses_nothing_that_was_kept_and_halves_nothing(start, source, tmp_path):
    chance = random.Random(7)
    known = 0
    for _ in range(8):
        instance = start(source, state_dir=str(tmp_path / "state"))
        instance.event("ready")
        instance.until("found")
        instance.until("kept")
        time.sleep(chance.uniform(0.0, 0.05))  # the scene: a random moment
        instance.signal(signal.SIGKILL)
        assert instance.wait() == -signal.SIGKILL
        assert instance.stderr == ""
        assert _last(instance.stdout, "found") in (known, known + 1)  # one may have been kept but not told
        known = _last(instance.stdout, "kept")
    assert known >= 8


def test_a_daemon_without_a_place_for_its_state_says_so(start):
    instance = start("class D(duende.Daemon):\n def run(self, ctx): ctx.state['a'] = 1")
    instance.event("ready")
    assert instance.wait() == 1
    assert "StateError: there is no place for ctx.state: the manager has told no state directory" in instance.stderr


CHILDREN = """
async def poll(ctx):
    ctx_lives.append(1)
    raise OSError("connection refused")
ctx_lives = []
class D(duende.Daemon):
    async def run(self, ctx):
        rules = duende.RestartConfig(backoff=duende.BackoffConfig(initial_delay=60.0))
        ctx.supervise("steady", self.steady)
        ctx.supervise("poll", poll, restart=rules)
        ctx.task(asyncio.sleep, 1000, name="timer")
        await ctx.wait_shutdown()
    async def steady(self, ctx):
        await ctx.wait_shutdown()
    def metrics(self):
        return {"own": 1}
"""


def test_the_manager_is_told_of_children_and_tasks(start):
    instance = start(CHILDREN)
    instance.event("ready")
    while "poll backoff" not in (told := instance.event("status"))["text"]:
        pass
    assert told["text"] == "1 of 2 children running; poll backoff: OSError: connection refused"
    assert told["children"]["poll"]["status"] == "backoff"
    health = instance.ask("health")
    assert (health["healthy"], health["reason"]) == (False, "child poll: backoff: OSError: connection refused")
    metrics = instance.ask("metrics")["metrics"]
    assert metrics["own"] == 1
    assert (metrics["tasks_running"], metrics["tasks"]) == (1, ["timer"])
    assert metrics["children"]["steady"] == {"status": "running", "ready": True, "restarts": 0, "message": ""}
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert "OSError: connection refused; try 2 in" in instance.stderr


def test_a_failed_task_is_exit_code_1_with_the_traceback_in_the_log(start):
    source = """
class D(duende.Daemon):
    def run(self, ctx):
        ctx.task(self.work)
        ctx.wait_shutdown()
    def work(self): raise ValueError("no such table")
"""
    instance = start(source)
    instance.event("ready")
    instance.event("stopping")
    assert instance.wait() == 1
    assert "Traceback" in instance.stderr
    assert "ValueError: no such table" in instance.stderr


RELOADED = """
from dataclasses import dataclass, field
@dataclass(frozen=True)
class Settings:
    port: int
    names: list[str] = field(default_factory=list)
    def __post_init__(self):
        if self.port < 1: raise ValueError(f"port {self.port} is none")
class D(duende.Daemon):
    settings: Settings
    async def init(self, config): print("port", self.settings.port)
    async def reload(self, new, old):
        print("reload", old.port, new.port, self.settings.port)
        if new.port == 13: raise RuntimeError("unlucky")
    async def run(self, ctx):
        while not ctx.should_shutdown:
            print("got", await ctx.recv_signal(), self.settings.port, ctx.config.settings["port"])
"""
BLOCKING_RELOADED = RELOADED.replace("async def", "def").replace("await ", "")


def _write(folder: Path, settings: str) -> str:
    path = folder / "duende.toml"
    path.write_text(f'[daemon.web]\ndaemon = "script.py:D"\n{settings}\n')
    return str(path)


@pytest.mark.parametrize("source", [RELOADED, BLOCKING_RELOADED], ids=["async", "blocking"])
def test_reload_brings_new_typed_settings_and_refuses_wrong_ones(start, source, tmp_path):
    path = _write(tmp_path, "settings = { port = 80 }")
    instance = start(source, config_file=path, settings={"port": 80})
    instance.event("ready")
    instance.until("port 80\n")
    _write(tmp_path, "settings = { port = 81 }")
    instance.signal(signal.SIGHUP)
    instance.until("reload 80 81 80\ngot 1 81 81\n")
    assert instance.event("status") == {"ev": "status", "text": "", "reload": "done"}
    for wrong, told in [
        ('settings = { port = "x" }', f'{path}:3: daemon.web.settings.port: expected an integer, found the string "x"'),
        ("[daemon.web.settings]\nport = 1\nname = 2", f"{path}:5: daemon.web.settings.name: unknown key (did you"),
        ("settings = { port = 0 }", f"{path}:3: daemon.web.settings: port 0 is none"),
        ("settings = { port = 1", f"{path}:3: is not valid TOML: "),
        ("settings = { port = 13 }", "reload() raised RuntimeError: unlucky"),
    ]:
        _write(tmp_path, wrong)
        instance.signal(signal.SIGHUP)
        status = instance.event("status")
        assert status["reload"] == "refused"
        assert status["text"].startswith(f"reload refused: {told}"), status
        instance.until(f"duende: web: reload refused, the old settings stay in force: {told}", "stderr")
    _write(tmp_path, "settings = { port = 82 }")
    instance.signal(signal.SIGHUP)
    instance.until("reload 81 82 81\ngot 1 82 82\n")
    assert instance.event("status")["text"] == ""
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0


def test_wrong_settings_at_the_start_are_a_failed_start_with_file_and_line(start, tmp_path):
    path = _write(tmp_path, "[daemon.web.settings]\nprot = 80")
    instance = start(RELOADED, config_file=path, settings={"prot": 80})
    failed = instance.event("failed")
    assert failed["stage"] == "settings"
    assert failed["error"].splitlines() == [
        f"{path}:3: daemon.web.settings.port: is missing (it is an integer)",
        f"{path}:4: daemon.web.settings.prot: unknown key (did you mean `port`?)",
    ]
    assert instance.wait() == 125
    assert "Traceback" not in instance.stderr


def test_the_configured_reload_signal_layers_and_replicas_are_respected(start, tmp_path):
    path = tmp_path / "duende.toml"
    settings = 'settings = { port = 80, names = ["{instance}"] }'
    path.write_text(f'[daemon.web]\ndaemon = "script.py:D"\nreplicas = 2\n{settings}\n')
    source = RELOADED.replace('print("got"', 'print(self.settings.names, "got"')
    instance = start(
        source, name="web.2", config_file=str(path), settings={"port": 80, "names": ["2"]},
        reload_signal=int(signal.SIGUSR1), layers={"DUENDE_DAEMON__WEB__SETTINGS__PORT": "90"},
        config={"replicas": 2, "instance": 2},
    )  # fmt: skip
    instance.event("ready")
    instance.signal(signal.SIGHUP)
    instance.until("['2'] got 1 80 80\n")
    instance.signal(signal.SIGUSR1)
    instance.until("['2'] got 10 90 90\n")


def test_without_a_file_a_reload_is_refused_and_without_reload_a_signal_is_only_a_signal(start):
    instance = start(RELOADED, settings={"port": 80})
    instance.event("ready")
    instance.signal(signal.SIGHUP)
    instance.until("web: there is no file to read settings from again", "stderr")
    plain = start("class D(duende.Daemon):\n def run(self, ctx): print('got', ctx.recv_signal())")
    plain.event("ready")
    plain.signal(signal.SIGHUP)
    plain.until("got 1\n")
    assert plain.wait() == 0
