"""A worker that visits the web server every second until it is asked to stop."""

from __future__ import annotations

from urllib.error import URLError
from urllib.request import urlopen

from duende import Daemon, DaemonConfig, DaemonContext


class Worker(Daemon):
    """A loop over `ctx.sleep`, which returns early when the daemon is asked to stop."""

    def init(self, config: DaemonConfig) -> None:
        self.url = config.settings["url"]

    def run(self, ctx: DaemonContext) -> None:
        while not ctx.should_shutdown:
            try:
                with urlopen(self.url, timeout=1.0) as answer:
                    print("web says:", answer.read().decode().strip())
            except URLError as error:
                print("web does not answer:", error.reason)
            ctx.sleep(1.0)
