"""A web server as a daemon: it is ready when `init` has bound the port, and serves until it is asked to stop."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from duende import Daemon, DaemonConfig, DaemonContext


class Web(Daemon):
    """Answers every request with its process id and how many it has answered."""

    def init(self, config: DaemonConfig) -> None:
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/healthz":
                    daemon.metrics().record_request()
                visitor = daemon.metrics().snapshot().requests_total
                body = f"hello from process {os.getpid()}, visitor {visitor}\n".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, text: str, *values: object) -> None:
                print(text % values, flush=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", int(config.settings["port"])), Handler)
        self.server.timeout = 0.2  # seconds that handle_request waits; also how late a stop is noticed

    def run(self, ctx: DaemonContext) -> None:
        print(f"listening on port {self.server.server_port}")
        while not ctx.should_shutdown:
            self.server.handle_request()
