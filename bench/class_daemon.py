"""The smallest Python-class daemon, for the benchmarks of starts."""

from __future__ import annotations

import os

from duende import Daemon, DaemonConfig, DaemonContext

__all__ = ["Smallest", "Telling"]


class Smallest(Daemon):
    """Does nothing until it is asked to stop."""

    async def run(self, ctx: DaemonContext) -> None:
        while not ctx.should_shutdown:
            await ctx.recv_signal()


class Telling(Smallest):
    """Writes its pid into the FIFO of its settings as its first act."""

    def init(self, config: DaemonConfig) -> None:
        with open(str(config.settings["fifo"]), "w") as file:
            file.write(f"{os.getpid()}\n")
