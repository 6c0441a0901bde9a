"""A manager without processes: it keeps what the API asked for, and says what a test tells it to say."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from duende.api.server import ApiServer
from duende.errors import DaemonError, UnknownDaemon, UnknownHook
from duende.runtime.logs.store import LogStore


def daemon_status(name: str, status: str = "running", **changes: Any) -> dict[str, Any]:
    """One entry of `status`, of a healthy running daemon unless told otherwise."""
    entry: dict[str, Any] = {
        "name": name, "id": "00000000-0000-0000-0000-000000000001", "status": status, "ready": status == "running",
        "health": None, "platform": "native", "handle": "native:pid77" if status == "running" else None,
        "pid": 77 if status == "running" else None, "restarts": 0, "uptime_s": 12.0 if status == "running" else None,
        "exit": None, "next_start_s": None, "restart_owner": "duende", "wanted": True, "waiting_for": [], "message": "",
        "limits_not_enforced": [], "children": {}, "log_tail": [],
    }  # fmt: skip
    return entry | changes


class FakeEvents:
    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.reads: list[int] = []
        self.followers = 0
        self._wake = asyncio.Event()

    @property
    def last_seq(self) -> int:
        return self.kept[-1]["seq"] if self.kept else 0

    def add(self, daemon: str, kind: str, message: str = "") -> None:
        self.kept.append({
            "seq": self.last_seq + 1, "time": "2026-11-21T02:36:00.000000Z", "daemon": daemon, "kind": kind,
            "status": None, "cause": "", "message": message, "data": {},
        })  # fmt: skip
        self._wake.set()
        self._wake = asyncio.Event()

    def since(self, seq: int, limit: int) -> list[dict[str, Any]]:
        self.reads.append(limit)
        return [event for event in self.kept if event["seq"] > seq][:limit]

    async def follow(self, after: int) -> AsyncIterator[dict[str, Any]]:
        self.followers += 1
        try:
            while True:
                wake = self._wake
                page = self.since(after, 100)
                for event in page:
                    after = event["seq"]
                    yield event
                if not page:
                    await wake.wait()
        finally:
            self.followers -= 1


class FakeManager:
    """`calls` is what was asked; `release` lets a `wait` or `shutdown` that hangs go on."""

    def __init__(self, log_dir: Path, names: Sequence[str] = ("cache", "web", "worker.1", "worker.2")) -> None:
        self.daemons = {name: daemon_status(name) for name in names}
        self.calls: list[tuple[Any, ...]] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.events = FakeEvents()
        self.log_store = LogStore(log_dir)
        self.raises: Exception | None = None
        self.hangs = False
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.environment: dict[str, Any] = {}

    def match(self, patterns: Sequence[str]) -> list[str]:
        found = []
        for pattern in patterns:
            matching = [name for name in self.daemons if fnmatch.fnmatchcase(name, pattern)]
            if not matching and pattern != "*":
                raise UnknownDaemon(f"cannot find daemon {pattern!r}: known are {', '.join(self.daemons)}")
            found += matching
        return [name for name in self.daemons if name in found]

    def status(self, names: Sequence[str] = ()) -> dict[str, Any]:
        if self.raises is not None:
            raise self.raises
        chosen = names or list(self.daemons)
        manager = {"pid": os.getpid(), "uptime_s": 5.0, "version": "0.1.0", "keeper_pid": 4242}
        return {"stack": "shop", "manager": manager, "daemons": [self.daemons[name] for name in chosen]}

    def explain(self, name: str) -> dict[str, Any]:
        self.calls.append(("explain", name))
        return {
            "name": name, "status": "created", "why": "it waits for cache (ready)",
            "waits_for": [
                {"name": "cache", "condition": "ready", "status": "backoff", "why": "exited with code 3\x1b[2J",
                 "waits_for": []},
            ],
            "history": [
                {"seq": 7, "time": "2026-11-21T02:36:00.000000Z", "kind": "waiting", "status": "created",
                 "message": "waits for cache (ready)", "because": "a start was asked for"},
            ],
            "next": [
                {"what": "it is started", "in_s": None, "condition": "as soon as cache is ready", "daemon": None},
                {"what": "it is started again", "in_s": 3.5, "condition": "", "daemon": "cache"},
            ],
            "can_do": [{"command": "duende logs cache", "why": "see what it wrote"}],
        }  # fmt: skip

    def graph(self, names: Sequence[str] = ()) -> dict[str, Any]:
        self.calls.append(("graph", list(names)))
        after = {"web": ["cache"], "worker.1": ["web"], "worker.2": ["web"]}
        return {"stack": "shop", "daemons": [
            {"name": name, "status": one["status"], "ready": one["ready"], "after": [
                {"name": other, "condition": "ready", "met": self.daemons[other]["ready"]}
                for other in after.get(name, ())
            ]}
            for name, one in self.daemons.items() if not names or name in names
        ]}  # fmt: skip

    chain: list[list[dict[str, Any]]] = []

    async def chains(self, names: Sequence[str] = ()) -> dict[str, Any]:
        self.calls.append(("chains", list(names)))
        return {"stack": "shop", "chains": self.chain}

    def processes(self, names: Sequence[str]) -> list[dict[str, Any]]:
        one = {"pid": 77, "ppid": 1, "state": "S", "rss_bytes": 3 << 20, "cpu_s": 1.5}
        return [{"name": name, **one, "command": f"run {name}"} for name in names]

    async def metrics(self, names: Sequence[str] = (), timeout_s: float = 1.0) -> list[Any]:
        return [{"name": name, "metrics": {"requests": 3}, "error": ""} for name in names]

    config_path: str | None = None

    def exec_environment(self, name: str) -> dict[str, Any]:
        self.calls.append(("exec", name))
        return self.environment

    async def start(self, names: Sequence[str] = (), **how: Any) -> list[dict[str, Any]]:
        return await self._operate("start", names, **how)

    async def stop(self, names: Sequence[str] = (), **how: Any) -> list[dict[str, Any]]:
        return await self._operate("stop", names, **how)

    async def restart(self, names: Sequence[str] = (), **how: Any) -> list[dict[str, Any]]:
        return await self._operate("restart", names, **how)

    async def reload(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return await self._operate("reload", names)

    async def signal(self, names: Sequence[str], signal: int, *, tree: bool = False) -> list[dict[str, Any]]:
        return await self._operate("signal", names, signal=signal, tree=tree)

    async def wait(
        self, names: Sequence[str], *, until: str = "ready", timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        return await self._operate("wait", names, until=until, timeout_s=timeout_s)

    def hook_report(self) -> list[dict[str, Any]]:
        return [
            {
                "name": "pager", "on": ["failed"], "daemons": [], "action": "webhook", "target": "https://x/…",
                "source": "duende.toml:9", "undelivered": 2, "delivered": 5, "given_up": 1, "failing": True,
                "last_delivery": {"seq": 3, "time": "2026-11-21T02:36:00.000000Z", "text": "HTTP status 204"},
                "last_error": {"seq": 9, "time": "2026-11-21T02:37:00.000000Z", "text": "HTTP status 503"},
                "next_try_s": 4.5,
            }
        ]  # fmt: skip

    async def test_hook(self, name: str) -> dict[str, Any]:
        if name != "pager":
            raise UnknownHook(f"no hook {name!r}; there are: pager")
        return {"name": name, "ok": False, "message": "HTTP status 503"}

    async def shutdown(self, *, stop_daemons: bool = True) -> None:
        await self._operate("shutdown", (), stop_daemons=stop_daemons)

    async def _operate(self, verb: str, names: Sequence[str], **how: Any) -> list[dict[str, Any]]:
        self.calls.append((verb, list(names), how))
        if self.raises is not None:
            raise self.raises
        self.begun.set()
        if self.hangs:
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        plain = {"ok": True, "changed": True, "status": "running", "message": ""}
        return [{"name": name, **plain, **self.results.get(name, {})} for name in names or self.daemons]


class Refusal(DaemonError):
    """A request that can't be done now."""

    kind = "refused-by-test"


class Served:
    """A fake manager behind a real socket, in a thread with a loop of its own."""

    def __init__(self, manager: FakeManager, server: ApiServer, loop: asyncio.AbstractEventLoop, path: str) -> None:
        self.manager = manager
        self.server = server
        self.path = path
        self.stop = asyncio.Event()
        self._loop = loop

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine in the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10.0)

    def do(self, act: Any, *args: Any) -> Any:
        """Call a function in the server's loop."""

        async def call() -> Any:
            return act(*args)

        return self.run(call())


@contextlib.contextmanager
def served(directory: Path, path: str, **limits: float) -> Iterator[Served]:
    """Serve a FakeManager at `path` while the block runs."""
    ready: list[Served] = []
    started = threading.Event()
    failures: list[BaseException] = []

    async def serve() -> None:
        manager = FakeManager(directory)
        server = ApiServer(manager, **limits)
        await server.listen(path)
        here = Served(manager, server, asyncio.get_running_loop(), path)
        ready.append(here)
        started.set()
        await here.stop.wait()
        await server.close(grace_s=1.0)

    def thread() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            failures.append(error)
        finally:
            started.set()

    runner = threading.Thread(target=thread)
    runner.start()
    assert started.wait(10.0)
    try:
        if ready:
            yield ready[0]
    finally:
        if ready and runner.is_alive():
            ready[0].do(ready[0].stop.set)
        runner.join(15.0)
        assert not runner.is_alive(), "the server did not close"
    if failures:
        raise failures[0]
