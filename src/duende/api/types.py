"""The wire types of the API, version 1: what travels as JSON between the manager and its clients.

They are TypedDicts, so a value is its own wire form; `schema.py` turns them into JSON Schema and checks requests
against them. Rules of version 1: a key is never removed and never changes its type; new keys may appear in answers, so
clients ignore what they do not know; unknown keys in requests are errors. Times are RFC 3339 in UTC, durations are
seconds (`_s`), sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

__all__ = [
    "DaemonStatusWire",
    "Event",
    "ExecEnvironment",
    "ExitWire",
    "HealthWire",
    "LogLine",
    "ManagerWire",
    "MinItems",
    "NamesRequest",
    "OpResult",
    "OperationRequest",
    "Operations",
    "ProblemDetails",
    "ProcessWire",
    "Processes",
    "ShutdownAnswer",
    "ShutdownRequest",
    "SignalRequest",
    "StackStatus",
    "StartRequest",
    "VersionWire",
    "WaitRequest",
]


class MinItems:
    """Says of an annotated list how many items it has at least."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count


# An empty list never means «all»: a client whose filter found nothing must not stop everything. `["*"]` means all.
_Names = Annotated[list[str], MinItems(1)]


class HealthWire(TypedDict):
    """The answer of the latest health check."""

    healthy: bool
    latency_ms: float
    reason: str


class ExitWire(TypedDict):
    """How the latest instance ended. `code` and `signal` exclude each other; `at_s` is Unix time."""

    reason: str
    message: str
    code: int | None
    signal: int | None
    at_s: float
    core_dumped: NotRequired[bool]
    errno: NotRequired[int | None]
    transient: NotRequired[bool]


class DaemonStatusWire(TypedDict):
    """Where one daemon stands, and why."""

    name: str
    id: str
    status: Literal["created", "starting", "running", "paused", "stopping", "stopped", "backoff", "failed"]
    ready: bool
    health: HealthWire | None
    platform: str
    handle: str | None
    pid: int | None
    restarts: int
    uptime_s: float | None
    exit: ExitWire | None
    next_start_s: float | None
    restart_owner: str
    wanted: bool
    waiting_for: list[str]
    message: str
    limits_not_enforced: list[str]
    log_tail: list[str]


class ManagerWire(TypedDict):
    """The manager that answers."""

    pid: int
    uptime_s: float
    version: str
    keeper_pid: int | None


class StackStatus(TypedDict):
    """All daemons of a stack, in the order of its file."""

    stack: str
    manager: ManagerWire
    daemons: list[DaemonStatusWire]


class OpResult(TypedDict):
    """What an operation did to one daemon; `changed` is false where it was so already.

    `timed_out` is true where the operation goes on but the time to wait for it is over.
    """

    name: str
    ok: bool
    changed: bool
    status: str
    message: str
    timed_out: NotRequired[bool]


class Operations(TypedDict):
    """What an operation did, one result per daemon. The HTTP status is 200 even if some failed: look at `ok`."""

    ok: bool
    results: list[OpResult]


class StartRequest(TypedDict):
    """Start daemons; without `names`, those that start with the stack. With `refuse_running`, one that is named (not by
    a glob) and has an instance already is answered with `ok: false`; otherwise it is unchanged.
    """

    names: NotRequired[_Names]
    refuse_running: NotRequired[bool]
    wait: NotRequired[bool]
    timeout_s: NotRequired[float | None]


class OperationRequest(TypedDict):
    """Names and globs, whether to answer only when it is done, and how long to wait for that."""

    names: _Names
    wait: NotRequired[bool]
    timeout_s: NotRequired[float | None]


class NamesRequest(TypedDict):
    """Names and globs."""

    names: _Names


class SignalRequest(TypedDict):
    """`signal` is a name with or without SIG, or Linux's number; `tree` sends it to every process of the daemon."""

    names: _Names
    signal: str | int
    tree: NotRequired[bool]


class WaitRequest(TypedDict):
    """Wait until all the daemons have reached `until` (default: ready)."""

    names: NotRequired[_Names]
    until: NotRequired[Literal["ready", "running", "stopped", "healthy", "exited", "settled"]]
    timeout_s: NotRequired[float | None]


class ProcessWire(TypedDict):
    """One process of a daemon's tree."""

    name: str
    pid: int
    ppid: int
    state: str
    rss_bytes: int
    cpu_s: float
    command: str


class Processes(TypedDict):
    """The processes of the daemons asked for."""

    processes: list[ProcessWire]


class DaemonMetricsWire(TypedDict):
    """One daemon's answer: `metrics` as its `metrics()` gives them, or null with the reason in `error`."""

    name: str
    metrics: dict[str, Any] | None
    error: str


class Metrics(TypedDict):
    """The metrics of the Python-class daemons asked for."""

    daemons: list[DaemonMetricsWire]


class ExecEnvironment(TypedDict):
    """What a command needs to run like the daemon does."""

    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    user: str | None
    group: str | None
    umask: int | None


class Event(TypedDict):
    """Something that happened; `seq` grows by one from event to event and never repeats."""

    seq: int
    time: str
    daemon: str
    kind: str
    status: str | None
    cause: str
    message: str
    data: dict[str, Any]


class LogLine(TypedDict):
    """One captured line. Bytes that are not UTF-8 come as `message_base64` instead of `message`."""

    time: str | None
    daemon: str
    stream: str
    instance: NotRequired[int | None]
    priority: NotRequired[int | None]
    partial: NotRequired[bool]
    message: NotRequired[str]
    message_base64: NotRequired[str]


class ShutdownRequest(TypedDict):
    """End the manager; with `stop_daemons` false the daemons live on and the next manager takes them over."""

    stop_daemons: NotRequired[bool]


class ShutdownAnswer(TypedDict):
    """The manager ends right after this answer; `pid` is what to wait for."""

    pid: int


class VersionWire(TypedDict):
    """Versions of the manager and of what it speaks."""

    version: str
    api: list[str]
    python: str
    pid: int


class ProblemDetails(TypedDict):
    """An error as of RFC 9457; `kind` is a stable word for programs."""

    type: str
    title: str
    status: int
    detail: str
    kind: str
    instance: NotRequired[str]
    problems: NotRequired[list[str]]
