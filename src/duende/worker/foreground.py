"""`duende.run(MyDaemon())`: the same life as under the manager, in this process, for development."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from duende.config.daemon import DaemonConfig
from duende.worker.context import DaemonContext
from duende.worker.control import Control
from duende.worker.daemon import Daemon
from duende.worker.host import Host, StopTimes
from duende.worker.places import Places
from duende.worker.process import finish_generators
from duende.worker.signals import SignalRelay

__all__ = ["run"]

_EXIT_SIGNAL_BASE = 128  # a shell reports 128 + N for a program that signal N has killed


def run(
    daemon: Daemon,
    *,
    config: DaemonConfig | None = None,
    settings: Mapping[str, Any] | None = None,
    state_dir: str | os.PathLike[str] | None = None,
) -> int:
    """Run a daemon in the foreground until it ends; return its exit code (0 graceful, 1 failed).

    Without `config` its name is the daemon's; `settings` are laid over those of `config`. Ctrl-C asks to stop, a second
    one ends the process at once with exit code 130. SIGHUP reads the settings again where `config` was loaded from a
    file. `ctx.state` is in `state_dir`; by default in the user's state directory, below `duende/foreground`, by the
    daemon's name. Needs the main thread, and no running event loop: RuntimeError.
    """
    given: object = daemon
    if not isinstance(given, Daemon):
        hint = f"; write duende.run({given.__name__}())" if isinstance(given, type) else ""
        raise TypeError(f"duende.run needs an instance of a class derived from duende.Daemon, not {given!r}{hint}")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("duende.run needs the main thread: only there does Python deliver signals")
    if _loop_is_running():
        raise RuntimeError("duende.run has an event loop of its own and can't be called inside a running one")
    config = config or DaemonConfig(name=daemon.name)
    if settings is not None:
        config = replace(config, settings=MappingProxyType({**config.settings, **settings}))
    places = Places(
        state_dir=os.path.abspath(state_dir) if state_dir is not None else "",
        config_file=config.source.rpartition(":")[0], reload_signal=config.reload_signal, overrides=settings or {},
        name=config.name,
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    times = StopTimes.alone(config.shutdown_timeout)
    host = Host(daemon, DaemonContext(config, places), Control(None), times, config.reload_signal)
    relay = SignalRelay(loop, host.deliver)
    relay.exit_at_second(lambda number: os._exit(_EXIT_SIGNAL_BASE + number))
    try:
        code = loop.run_until_complete(host.live())
        finish_generators(loop, host.left_s())
        return code
    finally:
        relay.close()
        asyncio.set_event_loop(None)
        loop.close()


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
