"""The class that users derive from. Only `run` is required; every method may be `def` or `async def`.

**A life.** The class is constructed without arguments, then `init(config)`, then the daemon counts as ready, then
`run(ctx)`. When `run` returns, the instance ends with exit code 0; when it raises, with code 1 and the traceback on
stderr. An exception in `init` is a failed start: its traceback is in the log and in `duende status`.

**Asked to stop** (SIGTERM, SIGINT, SIGQUIT): `ctx.should_shutdown` becomes true, every wait of the context returns, and
`shutdown(timeout)` is called at once *while run is still going*; `run` is expected to return. So all of these work:
a loop `while not ctx.should_shutdown`, a wait in `ctx.recv_signal()`, or a server whose `serve()` ends when `shutdown`
closes it. What has not ended when `timeout` has passed is named on stderr and the exit code is 1; an `async def` is
then cancelled so that its `finally` blocks run, a `def` in a thread can't be. `timeout` is a little less than the
configured shutdown timeout, so that all this happens before the manager kills. If `run` ends by itself, `shutdown` is
not called. A stop during an `async def init` cancels it; a `def init` is waited for, then `shutdown` is called and
`run` is not. At the end, tasks that `run` has begun by its context are cancelled, and its children stopped in reverse
order.

**Settings.** A class that says `settings: Settings`, a dataclass or TypedDict, has them set and checked before `init`.
The reload signal (SIGHUP) reads them again and calls `reload(new, old)`; what does not fit changes nothing.

**Threads.** `async def` methods run on the event loop of the main thread. A `def run` gets its own thread, and a `def
init` runs on the thread that run will use (a sqlite3 connection opened in `init` may be used in `run`). A `def`
`shutdown`, `reload`, `health_check` or `metrics` is called from a thread of its own, while run is going. An async `run`
that computes without awaiting blocks health checks too; that is seen as a health check that does not answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Self

from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.worker.metrics import DaemonMetrics

if TYPE_CHECKING:
    from duende.config.daemon import DaemonConfig
    from duende.worker.context import DaemonContext

__all__ = ["Daemon"]


class Daemon(ABC):
    """One long-running program. The module's docstring tells the order and the threads of the calls.

    `id` and `name` are set before `init`: by the manager to the daemon's own, otherwise to a new id and to the class
    attribute `name` or the class's name.
    """

    id: DaemonId
    name: str

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        # Here rather than in __init__, so that a subclass need not call super().__init__(); through object, so that
        # a frozen dataclass may be a daemon.
        self = super().__new__(cls)
        object.__setattr__(self, "_duende_metrics", DaemonMetrics())
        if not hasattr(cls, "id"):
            object.__setattr__(self, "id", DaemonId.new())
        if not hasattr(cls, "name"):
            object.__setattr__(self, "name", cls.__name__)
        return self

    def init(self, config: DaemonConfig) -> Awaitable[None] | None:
        """Prepare: read `config.settings`, open what `run` needs. The daemon is ready when this has returned."""
        return None

    @abstractmethod
    def run(self, ctx: DaemonContext) -> Awaitable[None] | None:
        """Do the work until it is done or `ctx.should_shutdown` is true."""

    def shutdown(self, timeout: float) -> Awaitable[None] | None:
        """Make `run` end, and release what it used, within `timeout` seconds. Called once, when asked to stop."""
        return None

    def health_check(self) -> Awaitable[HealthStatus] | HealthStatus:
        """Say whether all is well. An exception means unhealthy; `True` and `False` are accepted as answers."""
        return HealthStatus.healthy()

    def reload(self, new: Any, old: Any) -> Awaitable[None] | None:
        """Take new settings, which are checked already; an exception refuses them, and the old ones stay in force.

        Called at SIGHUP (`duende reload`) while `run` goes on, once at a time. `self.settings` is `new` when this has
        returned, and only then `ctx.recv_signal` gets the signal. Without a declaration of `settings` in the class
        both are plain mappings.
        """
        return None

    def metrics(self) -> DaemonMetrics:
        """Give the daemon's metrics, which `run` records into and the manager collects.

        An override may also return a mapping of names to numbers, or be `async def`.
        """
        metrics: DaemonMetrics = self.__dict__["_duende_metrics"]
        return metrics


def identify(daemon: Daemon, *, id: DaemonId | None, name: str | None) -> None:
    """Give `daemon` the manager's id and name before `init`; a read-only property of the class wins."""
    for attribute, value in (("id", id), ("name", name)):
        if value is not None:
            try:
                object.__setattr__(daemon, attribute, value)
            except AttributeError:
                continue  # the class defines it as a property without a setter: its own answer stands
