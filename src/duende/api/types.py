"""The wire types of the API, version 1: what travels as JSON between the manager and its clients.

They are TypedDicts, so a value is its own wire form; `schema.py` turns them into JSON Schema and checks requests
against them. Rules of version 1: a key is never removed and never changes its type; new keys may appear in answers, so
clients ignore what they do not know; unknown keys in requests are errors. Times are RFC 3339 in UTC, durations are
seconds (`_s`), sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

__all__ = [
    "Chains",
    "DaemonStatusWire",
    "Event",
    "ExecEnvironment",
    "ExitWire",
    "Explanation",
    "Graph",
    "HealthWire",
    "HookDelivery",
    "HookTest",
    "HookWire",
    "Hooks",
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


class ChildWire(TypedDict):
    """A child inside a Python-class daemon (`ctx.supervise`), and how it ended last."""

    status: Literal["created", "starting", "running", "paused", "stopping", "stopped", "backoff", "failed"]
    ready: bool
    restarts: int
    message: str


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
    children: dict[str, ChildWire]
    log_tail: list[str]


class ManagerWire(TypedDict):
    """The manager that answers."""

    pid: int
    uptime_s: float
    version: str
    keeper_pid: int | None


class HookDelivery(TypedDict):
    """An attempt to tell a hook: of which event, when, and how it went."""

    seq: int
    time: str
    text: str


class HookWire(TypedDict):
    """One hook, also of a daemon's `on_failure`. `failing`: told as an alert, until a delivery succeeds.

    `undelivered` events wait for it; `given_up` were tried and will not be tried again; `next_try_s` counts from now.
    """

    name: str
    on: list[str]
    daemons: list[str]
    action: Literal["command", "webhook", "entry_point", "start"]
    target: str
    source: str
    undelivered: int
    delivered: int
    given_up: int
    failing: bool
    last_delivery: HookDelivery | None
    last_error: HookDelivery | None
    next_try_s: float | None


class Hooks(TypedDict):
    """The hooks of a stack."""

    hooks: list[HookWire]


class HookTest(TypedDict):
    """How the delivery of a test event went."""

    name: str
    ok: bool
    message: str


class StackStatus(TypedDict):
    """All daemons of a stack, in the order of its file, and the hooks that are failing."""

    stack: str
    manager: ManagerWire
    daemons: list[DaemonStatusWire]
    failing_hooks: NotRequired[list[HookWire]]


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


class AwaitedWire(TypedDict):
    """A daemon that is waited for and is not there, why not, and what it waits for itself. `status` is null for one
    that the stack does not have.
    """

    name: str
    condition: str
    status: str | None
    why: str
    waits_for: list[AwaitedWire]


class ToldWire(TypedDict):
    """An event that led here, with its cause in words."""

    seq: int
    time: str
    kind: str
    status: str | None
    message: str
    because: str


class ComingWire(TypedDict):
    """What will happen `in_s` seconds from now (null: at no set time), under `condition`, a clause in words; `daemon`
    names another that it happens to.
    """

    what: str
    in_s: float | None
    condition: str
    daemon: str | None


class AdviceWire(TypedDict):
    """A command that helps, and what it is good for."""

    command: str
    why: str


class Explanation(TypedDict):
    """Why a daemon is as it is, what led there (oldest first), what comes next, and what one can do."""

    name: str
    status: str
    why: str
    waits_for: list[AwaitedWire]
    history: list[ToldWire]
    next: list[ComingWire]
    can_do: list[AdviceWire]


class EdgeWire(TypedDict):
    """What a daemon comes after, and whether that is there now; null where no manager says so."""

    name: str
    condition: str
    met: bool | None


class NodeWire(TypedDict):
    """A daemon in the graph; `status` and `ready` are null where no manager says how it stands."""

    name: str
    status: str | None
    ready: bool | None
    after: list[EdgeWire]


class Graph(TypedDict):
    """Who comes after whom, in the order of the file."""

    stack: str
    daemons: list[NodeWire]


class LinkWire(TypedDict):
    """A start in a critical chain; the next link is what it waited for last.

    Times are seconds after `zero_unix_s`, when the first of the chain was asked for; null where that has not happened
    or is no longer on record. `reached_s` is when it was what the link above waited for (the first: ready), `took_s`
    what of that is its own. `instance` is 0 for one that still waits.
    """

    name: str
    instance: int
    cause: str
    waits_for: list[str]
    waited_for_last: str | None
    condition: str | None
    zero_unix_s: float
    asked_s: float
    dependencies_met_s: float | None
    began_s: float | None
    executed_s: float | None
    ready_s: float | None
    ended_s: float | None
    outcome: str
    reached_s: float | None
    took_s: float | None


class Chains(TypedDict):
    """The critical chains of the daemons asked for, each from the daemon itself to the one that waited for nothing."""

    stack: str
    chains: list[list[LinkWire]]


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
