"""F010: SIGHUP makes a daemon read its configuration again, without a new process."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.harness import Stack

ROUNDS = 30
IN_FORCE_MAX_S = 1.0

# Says in a file which value is in force, and since when (the clock is the same in all processes).
RELOADING = """\
import json, os, time
from duende import Daemon, Signal

class Reloading(Daemon):
    def init(self, config):
        self.path = config.config_path
        self.read()

    def read(self):
        self.value = json.loads(self.path.read_text())["value"]
        with open("in-force.new", "w") as file:
            json.dump({"value": self.value, "at_s": time.monotonic(), "pid": os.getpid()}, file)
        os.rename("in-force.new", "in-force")

    async def run(self, ctx):
        while not ctx.should_shutdown:
            if await ctx.recv_signal() is Signal.HUP:
                self.read()
"""


@pytest.mark.claim("F010")
def test_sighup_reloads_the_configuration(stack: Stack, claim_figure) -> None:
    """By turns `duende reload` and a bare kill(2), as logrotate and administrators send it."""
    stack.file("reloading.py", RELOADING)
    settings = stack.file("settings.json", json.dumps({"value": 0}))
    stack.write('[daemon.web]\ndaemon = "reloading:Reloading"\nconfig_path = "settings.json"\n')
    stack.up()
    before = stack.daemon("web")
    report = stack.folder / "in-force"
    took_s = []
    for value in range(1, ROUNDS + 1):
        replacement = stack.file("settings.new", json.dumps({"value": value}))
        os.rename(replacement, settings)
        assert json.loads(report.read_text())["value"] == value - 1  # nobody has told it yet
        began_s = time.monotonic()
        if value % 3 == 0:
            assert stack.run("reload", "web").returncode == 0
        else:
            os.kill(before["pid"], signal.SIGHUP)
        stack.until(lambda value=value: json.loads(report.read_text())["value"] == value, "the new value")
        told = json.loads(report.read_text())
        took_s.append(told["at_s"] - began_s)
        assert told["pid"] == before["pid"]
    claim_figure("slowest", max(took_s), "s")
    assert max(took_s) < IN_FORCE_MAX_S
    after = stack.daemon("web")
    assert (after["pid"], after["restarts"], after["status"]) == (before["pid"], 0, "running")
