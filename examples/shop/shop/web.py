"""The shop's web application: POST /orders puts an order on the queue, GET / tells how many were made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from duende import Daemon, DaemonConfig, DaemonContext, HealthStatus
from shop.redis import Redis, RedisError

ORDER_MAX_BYTES = 4096


class Web(Daemon):
    """A threaded server; each request has its own connection to redis."""

    def init(self, config: DaemonConfig) -> None:
        self.redis_port = int(config.settings["redis_port"])
        daemon = self

        class Handler(_Handler):
            web = daemon

        self.server = ThreadingHTTPServer(("127.0.0.1", int(config.settings["port"])), Handler)
        self.server.timeout = 0.2  # seconds that handle_request waits; also how late a stop is noticed

    def run(self, ctx: DaemonContext) -> None:
        while not ctx.should_shutdown:
            self.server.handle_request()

    def health_check(self) -> HealthStatus:
        try:
            self.ask("PING")
        except (OSError, RedisError) as error:
            return HealthStatus.unhealthy(f"redis: {error}")
        return HealthStatus.healthy()

    def ask(self, *words: str | int) -> Any:
        redis = Redis(self.redis_port)
        try:
            return redis(*words)
        finally:
            redis.close()


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, {"ok": True})
        else:
            self._measured(self._tell_orders)

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > ORDER_MAX_BYTES:
            self._answer(413, {"error": f"an order has at most {ORDER_MAX_BYTES} bytes"})
            return
        order = self.rfile.read(size).decode(errors="replace")
        self._measured(lambda: {"waiting": self.web.ask("RPUSH", "orders", order)})

    def _tell_orders(self) -> dict[str, Any]:
        return {"waiting": self.web.ask("LLEN", "orders"), "done": int(self.web.ask("GET", "done") or 0)}

    def _measured(self, question: Callable[[], dict[str, Any]]) -> None:
        metrics = self.web.metrics()
        metrics.record_request()
        started_s = time.monotonic()
        try:
            self._answer(200, question())
        except (OSError, RedisError) as error:
            metrics.record_error()
            self._answer(503, {"error": f"redis: {error}"})
        metrics.record_duration(time.monotonic() - started_s)

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, text: str, *values: object) -> None:
        print(text % values, flush=True)
