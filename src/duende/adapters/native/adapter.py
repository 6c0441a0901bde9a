"""The native adapter: instances are children of the keeper, watched and signalled through pidfds.

Each instance has a record here with a pidfd of our own, so that a signal can only ever reach that very process. The
keeper reports exits and holds the zombie until `release`. When the leader has ended, what it left behind is killed
(unless `kill_mode = "process"`) and only then the exit is reported. If the keeper dies, its records become *orphans*:
their pidfds tell when they end, the kernel (PIDFD_GET_INFO, Linux 6.15) or wait(2), where they fell to us, how.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from duende.adapters.base import (
    AdapterTrouble,
    Capabilities,
    EventSink,
    InstanceContinued,
    InstanceExited,
    InstanceKey,
    InstanceNote,
    InstancePaused,
    InstanceReady,
    InstanceReport,
    PlatformAdapter,
    Probe,
    Spawned,
    Survey,
)
from duende.adapters.native import places, render
from duende.adapters.native.cgroups import InstanceCgroups
from duende.adapters.native.client import KeeperClient, KeeperInstance
from duende.adapters.native.control import ControlLine
from duende.adapters.native.notices import Unanswered, told_by
from duende.adapters.native.orphans import Orphans
from duende.adapters.native.output import Drain, reopen_output
from duende.adapters.native.record import Record, end_tree, left_behind, oom_kills
from duende.adapters.native.strays import Strays, end_remains
from duende.adapters.native.tree import Tree, marker_of
from duende.adapters.native.users import look_up
from duende.adapters.native.warmth import Warmth
from duende.config.check import environment_problems
from duende.config.daemon import DaemonConfig, KillMode
from duende.errors import (
    ConfigError,
    NotFound,
    NotSupported,
    PlatformError,
    PlatformIoError,
    ResourceLimit,
    SignalFailed,
)
from duende.model.exits import ExitInfo
from duende.model.handle import DaemonHandle
from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.model.platform import Platform
from duende.system import procfs
from duende.system.cgroup import Cgroup
from duende.system.process import Identity, open_identified, pidfd_open, send_signal

__all__ = ["NativeAdapter", "OutputSink"]

_ENDING = (1, 2, 3, 15)  # SIGHUP, SIGINT, SIGQUIT, SIGTERM: to a whole tree they ask it to end
_KEEPER_END_S = 5.0  # for the last it holds: a start that was given up, an exit whose release is on its way
_SETTLED_S = 1.0  # after a takeover all starts that have to be repeated are under way by then
_KEEPER_RETRY_S = 1.0  # after a keeper that could not be started: no memory, no descriptors

OutputSink = Callable[[InstanceKey, DaemonConfig | None, int, int], None]
"""Gets (key, config, stdout, stderr): the read ends of an instance's pipes, non-blocking, to own and close."""


class NativeAdapter(PlatformAdapter):
    """Processes of this machine.

    `directory` holds the keeper's socket and must be private to this user; without one a temporary directory is made
    and the keeper ends with `close`, if nothing runs. `on_output` takes the pipes; without it output goes nowhere.
    """

    platform = Platform.NATIVE
    capabilities = Capabilities(pause=True, signals=True, logs=True, health=True, limits=True)

    def __init__(
        self, directory: Path | None = None, *, stack: str = "library", on_output: OutputSink | None = None,
        base_environment: Mapping[str, str] | None = None, worker_places: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._temporary = tempfile.TemporaryDirectory(prefix="duende-") if directory is None else None
        self.directory = directory or Path(self._temporary.name if self._temporary else "")
        self.stack = stack
        # Two stacks may have one name (of two users, in two runtime directories) and one parent cgroup.
        self.cgroups = InstanceCgroups(f"{stack}.{zlib.crc32(os.fsencode(self.directory)):08x}")
        self.on_output = on_output
        self._worker_places = places.of_stack(stack, worker_places or {})
        self.base_environment = dict(os.environ if base_environment is None else base_environment)
        self._strays = Strays(
            lambda key: self._client.release(key),
            lambda text: self._sink(AdapterTrouble(text)),
            lambda key: key in self._records,
        )
        self._client = KeeperClient(self.directory, self._on_keeper_event, self._on_keeper_lost, self._strays.reported)
        self._orphans = Orphans(self._own, self._finish, lambda event: self._sink(event))
        self._records: dict[InstanceKey, Record] = {}
        self._by_pid: dict[int, Record] = {}  # a number is held as a zombie until `release`, so it is unique here
        self._unanswered = Unanswered()
        self._drain = Drain()
        self._sink: EventSink = lambda event: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._warmth = Warmth(self._client, self.base_environment)
        self._replacing: asyncio.Task[None] | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._is_open = False
        self._closing = False

    @property
    def keeper_pid(self) -> int | None:
        """The keeper's process id."""
        return self._client.pid

    async def probe(self) -> Probe:
        """Native instances need Linux with pidfds (5.3)."""
        if not hasattr(os, "pidfd_open"):
            return Probe(False, "this Python or kernel has no pidfd_open (Linux 5.3); duende's keeper needs it")
        return Probe(True)

    async def open(self, sink: EventSink) -> list[Survey]:
        """Connect to the keeper or start one; what it holds is ours again."""
        probe = await self.probe()
        if not probe.available:
            raise NotSupported(self.platform, f"running daemons ({probe.reason})")
        self._sink = sink
        self.cgroups.detect()
        surveys = [self._take_over(found) for found in await self._connect()]
        self._is_open, self._unanswered.until_open = True, False
        self._settling = asyncio.get_running_loop().call_later(_SETTLED_S, self._strays.settle)
        return surveys

    async def close(self) -> None:
        """Leave. Instances go on, except that a temporary keeper with no instance ends."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._settling is not None:
            self._settling.cancel()
        self._strays.settle()
        if self._client.connected and not self._records:
            await self._client.quit(0.0 if self._unanswered else _KEEPER_END_S)
        self._client.close()
        for record in self._records.values():
            self._close_record(record)
        self._records.clear()
        self._orphans.close()
        self._drain.close()
        if self._temporary is not None and not self._client.socket_path.exists():
            self._temporary.cleanup()

    async def end_keeper(self) -> bool:
        """Ask the keeper to end; it does not while it holds instances. Only `close` may follow."""
        self._closing = True  # when it goes away now, that is no trouble
        return await self._client.quit(_KEEPER_END_S) if self._client.connected else True

    async def spawn(self, config: DaemonConfig, id: DaemonId, instance: int = 1) -> Spawned:
        """Make an instance; see the contract."""
        with self._strays.claim(InstanceKey(config.name, instance)):
            return await self._spawn(config, id, instance)

    async def _spawn(self, config: DaemonConfig, id: DaemonId, instance: int) -> Spawned:
        if not self._client.connected:
            raise PlatformIoError("the keeper is not there; it is being started again")
        key = InstanceKey(config.name, instance)
        account = look_up(config.user, config.group)
        env = render.environment(config, id, instance, self.base_environment, account, self._client.notify_path)
        if config.may_notify and account.uid not in (None, os.geteuid()):
            self._client.open_notify_to_others()
        if config.daemon is not None:
            await self._warmth.ensure()
        elif problems := environment_problems(env, config.command or ()):
            raise ConfigError("cannot be executed: " + "; ".join(f"{one.reason} ({one.hint})" for one in problems))
        if (present := self._records.get(key)) is not None:
            return Spawned(present.handle, config.awaits_ready, present.gaps)
        if not self._client.has_room(len(self._unanswered) + 1):  # or nobody could ask us any more why
            raise ResourceLimit(f"Too many open files: no room for the pipes of {key} (RLIMIT_NOFILE)")
        # Its cgroup may be that of a start under way: asked for here, or by the manager before us.
        keep = key in self._unanswered or (self._strays.are_held and self._client.found_running)
        cgroup, gaps = self.cgroups.make(config, instance, keep=keep)
        spec = render.spawn_spec(
            config, id, env, account, cgroup_procs=cgroup.procs_files if cgroup else [],
            worker=places.for_worker(config, account, self.base_environment, self._worker_places),
        )  # fmt: skip
        note = render.note(config, id, env[render.MARKER], cgroup, gaps, awaits_ready=config.awaits_ready)
        self._unanswered.ask(key)
        try:
            answer = await self._client.spawn(str(key), spec, note)
        except EOFError as error:
            self._forget_question(key)
            self._strays.abandon(env[render.MARKER], cgroup)
            raise PlatformIoError(f"the keeper went away during the start of {key}") from error
        if isinstance(answer, dict):
            self._forget_question(key)
            self._strays.remove_cgroup(cgroup)
            raise render.spawn_error(answer, config)
        try:
            record = self._record(answer, config)
        except PlatformError:  # no descriptor left for it: what nobody can watch must not run
            self._forget_question(key)
            self._strays.end(answer)
            raise
        for message in self._forget_question(key):
            asyncio.get_running_loop().call_soon(self._on_keeper_event, message)  # after our caller knows of it
        return Spawned(record.handle, config.awaits_ready, record.gaps)

    async def signal(self, handle: DaemonHandle, signal: int, *, tree: bool = False) -> None:
        """Through the pidfd; with `tree` to every process of the instance."""
        record = self._find(handle)
        try:
            if tree:
                if signal in _ENDING and record.config is not None:
                    record.asked_until_s = time.monotonic() + record.config.stop_limit
                record.tree.signal(signal)
            else:
                send_signal(record.pidfd, signal)
        except NotFound:
            raise
        except PlatformError as error:
            raise SignalFailed(str(error)) from error

    async def status(self, handle: DaemonHandle) -> InstanceReport:
        """Ask the kernel now."""
        record = self._by_pid.get(handle.pid or 0)
        if record is None or record.handle != handle:
            return InstanceReport(running=False)
        stat = procfs.stat(record.tree.leader)
        running = record.exit is None and stat is not None and stat.state not in "ZX"
        return InstanceReport(running, paused=running and stat is not None and stat.state in "Tt", exit=record.exit)

    async def kill(self, handle: DaemonHandle, *, leader_only: bool = False) -> None:
        """SIGKILL. With a cgroup that is one write (cgroup.kill) for the whole tree."""
        record = self._find(handle, ending=True)
        record.asked_until_s = 0.0
        with contextlib.suppress(NotFound):  # it has ended meanwhile; the exit is on its way
            if leader_only:
                send_signal(record.pidfd, 9)
            else:
                record.tree.kill()
                send_signal(record.pidfd, 9)  # also where it had moved itself out of its cgroup

    async def pause(self, handle: DaemonHandle) -> None:
        """SIGSTOP to the whole tree."""
        await self.signal(handle, 19, tree=True)

    async def resume(self, handle: DaemonHandle) -> None:
        """SIGCONT to the whole tree."""
        await self.signal(handle, 18, tree=True)

    async def release(self, key: InstanceKey) -> None:
        """Let the keeper reap it, and forget it."""
        record = self._records.pop(key, None)
        if record is None:
            return
        self._by_pid.pop(record.tree.leader, None)
        self._client.release(str(key))
        self._close_record(record)
        self._strays.remove_cgroup(
            record.tree.cgroup, quiet=record.handle.data.get("kill_mode") == KillMode.PROCESS.value
        )

    async def check_health(self, handle: DaemonHandle, timeout_s: float) -> HealthStatus:
        """Ask the class's `health_check`."""
        answer = await self._line(handle).ask("health", timeout_s)
        return HealthStatus.from_json({"latency_ms": 0.0, "reason": "", **answer})

    async def metrics(self, handle: DaemonHandle, timeout_s: float) -> dict[str, Any]:
        """Ask the class's `metrics`."""
        return dict((await self._line(handle).ask("metrics", timeout_s)).get("metrics") or {})

    def tree_of(self, handle: DaemonHandle) -> Tree:
        """The processes of an instance, for `duende ps`."""
        return self._find(handle).tree

    async def adopt(self, key: InstanceKey, handle: DaemonHandle) -> bool:
        """Take an instance that no keeper knows, if that very process still lives: (pid, start time, boot id)
        decide.
        """
        data = handle.data
        pidfd = open_identified(Identity(data["pid"], data["start_ticks"], data["boot_id"]))
        if pidfd is None:
            if data.get("kill_mode") != KillMode.PROCESS.value:
                await end_remains(data)
            return False
        cgroup = Cgroup.from_json(data["cgroup"]) if data.get("cgroup") else None
        record = Record(key, handle, Tree(data["pid"], data["marker"], cgroup), pidfd, None)
        self._records[key] = self._by_pid[record.tree.leader] = record
        self._sink(InstanceContinued(key))  # unless the look that follows finds it stopped
        self._orphans.watch(record)
        if self.on_output is not None:
            try:
                streams = reopen_output(data["pid"])
            except OSError as error:
                self._sink(AdapterTrouble(f"the output of {key} can't be had again: {error.strerror}"))
            else:
                self.on_output(key, None, *streams)
        return True

    # --- the keeper

    async def _connect(self) -> list[KeeperInstance]:
        return await self._client.open(have=[str(key) for key in self._records])

    def _take_over(self, found: KeeperInstance) -> Survey:
        record = self._record(found, None)
        if found.exit is not None:
            self._ended(record, found.exit["code"], found.exit["status"])
        elif (stat_now := procfs.stat(found.pid)) is not None:  # it may have changed while nobody was there to be told
            record.is_paused = stat_now.state in "Tt"
            self._sink(InstancePaused(record.key) if record.is_paused else InstanceContinued(record.key))
        for message in self._unanswered.said_of(record.key):
            asyncio.get_running_loop().call_soon(self._on_keeper_event, message)
        return Survey(record.key, record.handle, found.note)

    def _record(self, found: KeeperInstance, config: DaemonConfig | None) -> Record:
        note = found.note
        key = InstanceKey.parse(found.key)
        present = self._records.get(key)
        if present is not None:  # a spawn that was asked for twice
            found.close()
            return present
        if found.is_incomplete:
            raise ResourceLimit(f"no descriptor is free for the pipes of {found.key} (RLIMIT_NOFILE)")
        handle = render.handle(found.pid, found.start_ticks, note)
        cgroup = Cgroup.from_json(note["cgroup"]) if note["cgroup"] else None
        tree, gaps = Tree(found.pid, note["marker"], cgroup), tuple(note.get("gaps") or ())
        record = Record(key, handle, tree, pidfd_open(found.pid), config, gaps=gaps)
        self._records[key] = self._by_pid[record.tree.leader] = record
        if found.control is not None:
            record.control = ControlLine(found.control, lambda message: self._on_control(record, message))
        if self.on_output is not None:
            self.on_output(key, config, found.stdout, found.stderr)
        else:
            self._drain.add(found.stdout)
            self._drain.add(found.stderr)
        if found.notices:
            asyncio.get_running_loop().call_soon(self._notified, record, found.notices)  # after our caller knows of it
        return record

    def _on_keeper_event(self, message: dict[str, Any]) -> None:
        if message["ev"] == "zygote-lost":
            self._warmth.lost()
            return
        if message["id"] is None:  # of sd_notify: the keeper does not know the sender; it may be of one that it lost
            record = self._sender(message["pid"])
            if record is not None and record.orphan:
                self._notified(record, message["notices"])
            return
        key = InstanceKey.parse(message["id"])
        record = self._records.get(key)
        if record is None:
            if not self._unanswered.keep_event(key, message) and message["ev"] == "exit":
                self._strays.ended(key)
            return
        match message["ev"]:
            case "exit":
                self._ended(record, message["code"], message["status"])
            case "stopped":
                record.is_paused = True
                self._sink(InstancePaused(record.key))
            case "continued":
                record.is_paused = False
                self._sink(InstanceContinued(record.key))
            case "notify":
                self._notified(record, message["notices"])

    def _on_keeper_lost(self, why: str) -> None:
        self._warmth.lost()
        if self._closing or not self._is_open or self._replacing is not None:
            return  # whoever opens sees it too
        self._sink(AdapterTrouble(f"{why}; instances go on, a new keeper is started"))
        self._orphan_all_but(())
        self._replacing = self._own(self._replace_keeper())

    def _orphan_all_but(self, known: Collection[InstanceKey]) -> None:
        for key, record in self._records.items():
            if key not in known and record.exit is None and not record.orphan:
                self._orphans.watch(record)

    async def _replace_keeper(self) -> None:
        told = ""
        while True:
            try:
                known = await self._connect()
                break
            except (PlatformError, OSError, EOFError) as error:  # OSError: no descriptor for a socket
                if str(error) != told:
                    told = str(error)
                    self._sink(AdapterTrouble(f"no new keeper: {error}; it is tried again"))
            await asyncio.sleep(_KEEPER_RETRY_S)
        self._replacing = None
        for found in known:  # it was only the connection that broke
            record = self._records.get(InstanceKey.parse(found.key))
            if record is None:
                self._strays.end(found)
                continue
            found.close()
            if record.exit is None:
                self._orphans.leave(record)
                self._notified(record, found.notices)
                if found.exit is not None:
                    self._ended(record, found.exit["code"], found.exit["status"])
        # Also one whose answer came in the same moment in which the keeper was lost.
        self._orphan_all_but({InstanceKey.parse(found.key) for found in known})
        self._sink(AdapterTrouble("a new keeper is there", cleared=True))

    # --- what instances say and how they end

    def _on_control(self, record: Record, message: dict[str, Any]) -> None:
        match message.get("ev"):
            case "ready":
                self._sink(InstanceReady(record.key))
            case "failed":
                record.last_words = message
                self._sink(InstanceNote(record.key, "failed", str(message.get("error", "")), message))
            case other:
                self._sink(InstanceNote(record.key, str(other), str(message.get("text", "")), message))

    def _notified(self, record: Record, notices: Mapping[str, str]) -> None:
        for event in told_by(record.key, notices, now_s=time.monotonic()):
            self._sink(event)

    def _sender(self, pid: int) -> Record | None:
        leader = self._by_pid.get(pid)
        if leader is not None:
            return leader
        marker = marker_of(pid)
        return next((record for record in self._records.values() if record.tree.marker == marker), None)

    def _ended(self, record: Record, code: int, status: int) -> None:
        kills = oom_kills(record) if status == 9 else 0
        limit = record.handle.data.get("memory_limit")
        self._finish(record, render.exit_info(code, status, at_s=time.time(), oom_kills=kills, memory_limit=limit))

    def _finish(self, record: Record, exit_info: ExitInfo) -> None:
        if record.exit is not None:
            return
        if record.control is not None:
            record.control.drain()
            record.control.close()
        if record.last_words:
            exit_info = replace(exit_info, message="{stage} failed: {error}".format_map(record.last_words))
        record.exit = exit_info
        if record.handle.data.get("kill_mode") == KillMode.PROCESS.value or not left_behind(record):
            self._sink(InstanceExited(record.key, exit_info))
            return
        record.ending = self._own(self._end_tree(record, exit_info))

    async def _end_tree(self, record: Record, exit_info: ExitInfo) -> None:
        survivors = await end_tree(record, lambda text: self._sink(AdapterTrouble(text)))
        self._sink(InstanceExited(record.key, exit_info, survivors))

    def _forget_question(self, key: InstanceKey) -> list[dict[str, Any]]:
        """The spawn is answered; returns what was said of the instance before."""
        return self._unanswered.answered(key)

    def _find(self, handle: DaemonHandle, *, ending: bool = False) -> Record:
        """With `ending` also one whose leader has ended, and whose tree has not."""
        record = self._by_pid.get(handle.pid or 0)
        is_over = record is None or (record.exit is not None and not (ending and record.asked_until_s))
        if record is None or record.handle != handle or is_over:
            raise NotFound(f"{handle} has ended")
        return record

    def _line(self, handle: DaemonHandle) -> ControlLine:
        record = self._find(handle)
        if record.control is None:
            raise NotSupported(self.platform, "asking a daemon that is not a Python class")
        return record.control

    def _close_record(self, record: Record) -> None:
        self._orphans.leave(record)
        if record.control is not None:
            record.control.close()
        os.close(record.pidfd)

    def _own(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:  # a bug of ours must be seen
            self._sink(AdapterTrouble(f"internal error: {type(error).__name__}: {error}"))
            asyncio.get_running_loop().call_exception_handler({"message": "in the native adapter", "exception": error})
