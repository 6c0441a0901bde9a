"""The larger example with real redis-server and nginx: it serves, survives kills without losing an order, and ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.harness import Stack, free_port

SHOP = Path(__file__).parents[2] / "examples" / "shop"
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
_LACKING = [name for name in ("redis-server", "redis-cli", "nginx") if shutil.which(name, path=_PATH) is None]

pytestmark = pytest.mark.skipif(bool(_LACKING), reason=f"needs {', '.join(_LACKING)} (see tools/provision.py)")


class Shop:
    """The example in a folder and on ports of its own."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        shutil.copytree(SHOP, stack.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data", "__pycache__"))
        toml = (SHOP / "duende.toml").read_text().replace('name = "shop"', f'name = "{stack.name}"')
        stack.write(toml)
        self.port = free_port()
        stack.env |= {
            "SHOP_PORT": str(self.port), "SHOP_WEB_PORT": str(free_port()), "SHOP_REDIS_PORT": str(free_port()),
            "SHOP_DATA": str(stack.folder / "data"),
        }  # fmt: skip

    def ask(self, path: str = "/", data: bytes | None = None) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", data=data, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def is_done(self, orders: int) -> bool:
        try:
            return self.ask() == {"waiting": 0, "done": orders}
        except (URLError, OSError):
            return False  # nginx or redis is just coming back

    def kill(self, name: str) -> None:
        """SIGKILL to the leader, and wait until it is back and ready."""
        before = self.stack.daemon(name)
        os.kill(before["pid"], signal.SIGKILL)

        def is_back() -> bool:
            now = self.stack.daemon(name)
            return bool(now["restarts"] > before["restarts"] and now["ready"])

        self.stack.until(is_back, f"{name} back again")


@pytest.fixture
def shop(make_stack: Callable[..., Stack]) -> Shop:
    return Shop(make_stack())


def test_orders_go_through_nginx_web_and_redis_to_a_worker(shop: Shop) -> None:
    up = shop.stack.up()
    assert "failed" not in up.stdout
    status = {one["name"]: one for one in shop.stack.status()["daemons"]}
    assert [name for name, one in status.items() if one["status"] == "running" and one["ready"]] == [
        "redis", "web", "worker.1", "worker.2", "nginx",
    ]  # fmt: skip
    assert status["prepare"]["exit"]["code"] == 0
    for number in range(20):
        assert "waiting" in shop.ask("/orders", f"order {number}".encode())
    shop.stack.until(lambda: shop.is_done(20), "all orders made")
    made = [line for name in ("worker.1", "worker.2") for line in shop.stack.log(name) if line.startswith("made ")]
    assert sorted(made) == sorted(f"made order {number}" for number in range(20))
    assert any('"GET / HTTP' in line for line in shop.stack.log("nginx"))


def test_no_order_is_lost_when_everything_is_killed_once(shop: Shop) -> None:
    shop.stack.up()
    for number, name in enumerate(("redis", "nginx", "web", "worker.1", "worker.2"), start=1):
        shop.ask("/orders", name.encode())
        shop.stack.until(lambda number=number: shop.is_done(number), "the order before the kill")  # type: ignore[misc]
        shop.kill(name)
    shop.ask("/orders", b"the last one")
    shop.stack.until(lambda: shop.is_done(6), "all orders made")
    waited = shop.stack.run("wait", "redis", "web", "nginx", "--for", "healthy", "--timeout", "20s")
    assert waited.returncode == 0, waited.stdout


def test_it_goes_down_in_time_comes_up_again_and_leaves_nothing(shop: Shop) -> None:
    shop.stack.up()
    shop.ask("/orders", b"first life")
    shop.stack.until(lambda: shop.is_done(1), "the order")
    assert shop.stack.run("down").returncode == 0
    assert not shop.stack.our_processes()
    shop.stack.up()
    assert shop.ask()["done"] == 1, "redis keeps its data over a restart of the stack"


def test_redis_that_is_away_is_said_by_web_and_its_health(shop: Shop) -> None:
    check = 'daemon.web.health_check={interval="100ms", retries=1}'
    shop.stack.up("--set", check, "--set", "daemon.redis.restart=never")
    os.kill(shop.stack.daemon("redis")["pid"], signal.SIGKILL)
    health = shop.stack.until(
        lambda: (found := shop.stack.daemon("web")["health"]) and not found["healthy"] and found, "web unhealthy"
    )
    assert "redis" in health["reason"]
    assert shop.stack.run("start", "redis").returncode == 0
    shop.stack.until(lambda: shop.stack.daemon("web")["health"]["healthy"], "web healthy again")
