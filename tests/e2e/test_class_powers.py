"""A Python class with tasks, children, state and typed settings, under a real manager and through the real CLI."""

from __future__ import annotations

import os
import signal

from tests.harness import Stack

SHOP = """
import asyncio
from dataclasses import dataclass

import duende


@dataclass(frozen=True)
class Settings:
    step: int


class Shop(duende.Daemon):
    settings: Settings

    def init(self, config: duende.DaemonConfig) -> None:
        print("step", self.settings.step)

    def reload(self, new: Settings, old: Settings) -> None:
        print("step", old.step, "becomes", new.step)

    async def run(self, ctx: duende.DaemonContext) -> None:
        print("had", ctx.state.get("count", 0))
        fast = duende.RestartConfig(backoff=duende.BackoffConfig(initial_delay=0.01))
        ctx.supervise("flaky", self.flaky, restart=fast)
        ctx.supervise("steady", self.steady)
        ctx.task(self.count, ctx, name="count")
        await ctx.wait_shutdown()

    async def count(self, ctx: duende.DaemonContext) -> None:
        while not ctx.should_shutdown:
            async with ctx.state.transaction() as t:
                t["count"] = t.get("count", 0) + self.settings.step
            await asyncio.sleep(0.01)

    async def flaky(self, ctx: duende.DaemonContext) -> None:
        async with ctx.state.transaction() as t:
            t["lives"] = lives = t.get("lives", 0) + 1
        if lives == 1:
            raise OSError("connection refused")
        await ctx.wait_shutdown()

    async def steady(self, ctx: duende.DaemonContext) -> None:
        await ctx.wait_shutdown()
"""
TOML = """
[daemon.shop]
daemon = "shop.py:Shop"
restart = {{ delay = "0s" }}
health_check = {{ interval = "100ms" }}
settings = {{ step = {step} }}
"""


def test_tasks_children_state_and_reload_under_a_manager(stack: Stack) -> None:
    stack.file("shop.py", SHOP)
    stack.write(TOML.format(step=1))
    stack.up()

    def children() -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = stack.daemon("shop")["children"]
        return found

    stack.until(lambda: children().get("flaky", {}).get("restarts") == 1 and children()["flaky"]["ready"], "the child")
    assert children()["steady"] == {"status": "running", "ready": True, "restarts": 0, "message": ""}
    assert stack.daemon("shop")["message"] == "2 of 2 children running"
    stack.until(lambda: (stack.daemon("shop")["health"] or {}).get("healthy"), "its health")
    metrics = stack.run("metrics", "shop", "--json").json["daemons"][0]["metrics"]
    assert metrics["tasks"] == ["count"]
    assert metrics["children"]["flaky"]["message"] == "OSError: connection refused"

    stack.write(TOML.format(step='"two"'))
    stack.run("reload", "shop")
    stack.until(lambda: "reload refused" in stack.daemon("shop")["message"], "the refusal")
    where = f"{stack.folder}/duende.toml:6: daemon.shop.settings.step"
    assert f'{where}: expected an integer, found the string "two"' in stack.daemon("shop")["message"]
    stack.write(TOML.format(step=1000))
    stack.run("reload", "shop")
    stack.until(lambda: "step 1 becomes 1000" in stack.log("shop"), "the reload")

    first = stack.daemon("shop")
    os.kill(first["pid"], signal.SIGKILL)
    stack.until(lambda: (one := stack.daemon("shop"))["ready"] and one["pid"] != first["pid"], "the restart")
    stack.until(lambda: sum(line.startswith("had") for line in stack.log("shop")) == 2, "the second life")
    log = stack.log("shop")
    assert "had 0" in log
    assert int([line for line in log if line.startswith("had")][1].split()[1]) >= 1
    assert log.count("step 1000") == 1  # the reloaded settings are those of the next incarnation too
    assert (stack.state / stack.name / "daemons" / "shop" / "state.db").exists()
    assert stack.run("down").returncode == 0
