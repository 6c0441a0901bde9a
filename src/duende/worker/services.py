"""What a child can be, a class or a function, and what its restart rules can be: to one kind each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from duende.model.restart import RestartConfig, RestartPolicy
from duende.worker.daemon import Daemon

if TYPE_CHECKING:
    from duende.worker.context import DaemonContext

__all__ = ["Service", "daemon_maker", "restart_rules"]

Service = type[Daemon] | functools.partial[Daemon] | Callable[["DaemonContext"], Any]


def daemon_maker(service: Service) -> Callable[[], Daemon]:
    """What makes the daemon of one incarnation; TypeError when that can't be had."""
    given: Any = service  # users do not always run a type checker
    made = given.func if isinstance(given, functools.partial) else given
    if isinstance(made, type):
        if not issubclass(made, Daemon):
            raise TypeError(f"ctx.supervise needs a class derived from duende.Daemon, not {made.__name__}")
        maker: Callable[[], Daemon] = given
        return maker
    if isinstance(given, Daemon):
        name = type(given).__name__
        raise TypeError(f"ctx.supervise needs the class {name}, not an instance: a restart makes a new one")
    if not callable(given):
        raise TypeError(f"ctx.supervise needs a class or a function, not {given!r}")
    try:
        inspect.signature(given).bind(object())
    except TypeError as error:
        raise TypeError(f"ctx.supervise calls {given!r} with the child's context, but: {error}") from None
    kind = _AsyncFunction if inspect.iscoroutinefunction(given) else _Function
    return lambda: kind(given)


def restart_rules(restart: RestartConfig | RestartPolicy | str) -> RestartConfig:
    """A word alone means the defaults of that policy; ValueError lists the words."""
    if isinstance(restart, RestartConfig):
        return restart
    try:
        return RestartConfig(policy=RestartPolicy(restart))
    except ValueError:
        known = ", ".join(one.value for one in RestartPolicy)
        raise ValueError(f"ctx.supervise: restart is a RestartConfig or one of {known}, not {restart!r}") from None


class _Function(Daemon):
    """A `def` as a service."""

    def __init__(self, function: Callable[[DaemonContext], Any]) -> None:
        self._function = function

    def run(self, ctx: DaemonContext) -> Any:
        return self._function(ctx)


class _AsyncFunction(_Function):
    """An `async def` as a service."""

    async def run(self, ctx: DaemonContext) -> None:
        await self._function(ctx)
