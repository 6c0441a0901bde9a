"""What the API asks of a manager. `duende.runtime.manager.DaemonManager` is one; tests hand in another.

The answers are the wire forms of `types.py`, typed here as mappings so that a manager need not know that module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from duende.runtime.logs.store import LogStore
    from duende.runtime.manager import DaemonManager

__all__ = ["Events", "Manager", "Wire"]

Wire = Mapping[str, Any]


class Events(Protocol):
    """The numbered record of what happened."""

    @property
    def last_seq(self) -> int: ...

    def since(self, seq: int, limit: int) -> Sequence[Wire]: ...

    def follow(self, after: int) -> AsyncIterator[Wire]: ...


class Manager(Protocol):
    """The manager of one stack. Names and globs are resolved by `match`; the others are given exact names."""

    @property
    def config_path(self) -> str | None: ...

    @property
    def events(self) -> Events: ...

    @property
    def log_store(self) -> LogStore: ...

    def match(self, patterns: Sequence[str]) -> list[str]: ...

    def status(self, names: Sequence[str] = ()) -> Wire: ...

    def explain(self, name: str) -> Wire: ...

    def graph(self, names: Sequence[str] = ()) -> Wire: ...

    async def chains(self, names: Sequence[str] = ()) -> Wire: ...

    def processes(self, names: Sequence[str]) -> Sequence[Wire]: ...

    async def metrics(self, names: Sequence[str] = (), timeout_s: float = 1.0) -> Sequence[Wire]: ...

    def exec_environment(self, name: str) -> Wire: ...

    async def start(
        self,
        names: Sequence[str] = (),
        *,
        wait: bool = True,
        timeout_s: float | None = None,
        refuse_running: Collection[str] = (),
    ) -> Sequence[Wire]: ...

    async def stop(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> Sequence[Wire]: ...

    async def restart(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> Sequence[Wire]: ...

    async def reload(self, names: Sequence[str]) -> Sequence[Wire]: ...

    async def signal(self, names: Sequence[str], signal: int, *, tree: bool = False) -> Sequence[Wire]: ...

    async def wait(
        self, names: Sequence[str], *, until: str = "ready", timeout_s: float | None = None
    ) -> Sequence[Wire]: ...

    def hook_report(self) -> Sequence[Wire]: ...

    async def test_hook(self, name: str) -> Wire: ...

    async def shutdown(self, *, stop_daemons: bool = True) -> None: ...


if TYPE_CHECKING:

    def _is_one(manager: DaemonManager) -> Manager:  # the type checker's proof that the two still fit
        return manager
