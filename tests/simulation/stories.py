"""Short plans, each with one point: races that chance comes upon too rarely, and defects that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from duende.config.daemon import DaemonConfig, ReadyConfig, StackConfig
from duende.model.condition import Condition
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy

from .kernel import Behaviour
from .plan import Plan, Step

__all__ = [
    "CONTINUED_WITHOUT_KEEPER",
    "DOWN_KILLED_AT_THE_END",
    "DOWN_KILLED_BETWEEN",
    "ENDS_AT_ONCE",
    "ENDS_UNSEEN",
    "EXECUTES_IN_TAKEOVER",
    "EXIT_AHEAD",
    "NEWER_BESIDE_RECORD",
    "NEWER_THAN_RECORD",
    "ORDER_AFTER_COMPLETION",
    "OVERTAKEN",
    "READY_AND_KILLED",
    "REBOOTED_UNCONFIGURED",
    "RESTART_OVERTAKEN",
    "UNRECORDED_START",
]

_AGAIN = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=2.0, jitter=0.0))
_ONCE = RestartConfig(RestartPolicy.ON_FAILURE)
_PLAIN = Behaviour(obeys_s=1.0)


def _daemon(name: str = "a", **fields: Any) -> DaemonConfig:
    return DaemonConfig(name, command=("x",), **{"restart": _AGAIN, **fields})


def _plan(*steps: Step, daemons: tuple[DaemonConfig, ...] = (_daemon(),), **fields: Any) -> Plan:
    stack = StackConfig("sim", {config.name: config for config in daemons}, Path("/"))
    return Plan(1, stack, steps, **{"behaviour": _PLAIN, **fields})


# An incarnation that a full disk could not record ends while no manager is there.
EXIT_AHEAD = _plan(
    Step(1001.0, "disk-full", (), 20), Step(1002.0, "restart", ("a",)), Step(1005.0, "kill-manager"),
    Step(1006.0, "end", ("a",), 3), restarter=False,
)  # fmt: skip

# The same, and it lives when the next manager comes.
NEWER_THAN_RECORD = _plan(
    Step(1001.0, "disk-full", (), 20), Step(1002.0, "restart", ("a",)), Step(1005.0, "kill-manager"),
)  # fmt: skip

# The same, and the one on record is still listed too: for each boundary at which the manager may have died.
NEWER_BESIDE_RECORD = _plan(
    Step(1001.0, "disk-full", (), 20), Step(1002.0, "restart", ("a",)), restarter=False,
)  # fmt: skip

# Two users, one wants it stopped, the other started.
OVERTAKEN = _plan(Step(1001.0, "stop", ("a",)), Step(1001.1, "start", ("a",)))

RESTART_OVERTAKEN = _plan(Step(1001.0, "restart", ("a",)), Step(1001.1, "stop", ("a",)))

# It ends while nobody is there; for each boundary at which the manager may have died before.
ENDS_UNSEEN = _plan(Step(1003.0, "end", ("a",), 3), restarter=False)

# --- known defects; the names are those of checks.py

# HALF_DOWN
DOWN_KILLED_BETWEEN = _plan(Step(1001.0, "down"), Step(1001.5, "kill-both"), restarter=False)

# STALE_COMPLETION
ORDER_AFTER_COMPLETION = _plan(
    Step(1001.0, "end", ("a",), 0), Step(1002.0, "reboot"),
    daemons=(_daemon(restart=_ONCE), _daemon("b", after={"a": Condition.COMPLETED})),
)  # fmt: skip

# STALE_BOOT
REBOOTED_UNCONFIGURED = _plan(
    Step(1001.0, "drop"), Step(1002.0, "reboot"), Step(1003.0, "take-back"), Step(1004.0, "kill-manager"),
    daemons=(_daemon(), _daemon("b")),
)  # fmt: skip

# UNSEEN_CONTINUE; the quiet wakes everybody
CONTINUED_WITHOUT_KEEPER = _plan(Step(1001.0, "signal", ("a",), 19), Step(1002.0, "kill-keeper"))

# FORGOTTEN_INSTANCE
UNRECORDED_START = _plan(
    Step(1001.0, "disk-full", (), 20), Step(1002.0, "start", ("a",)), Step(1005.0, "kill-both"),
    daemons=(_daemon(autostart=False),),
)  # fmt: skip

# LOST_READY; to be killed at a boundary just after the datagram was read
READY_AND_KILLED = _plan(
    daemons=(_daemon(ready=ReadyConfig(notify=True), start_timeout=0.0),), behaviour=Behaviour(ready_s=0.05),
)  # fmt: skip

# FALSE_ALARM; to be killed between the commit of an exit and its release
ENDS_AT_ONCE = _plan(Step(1001.0, "restart", ("a",)))

# OWN_STRAY; it executes while the new manager is reading what runs
EXECUTES_IN_TAKEOVER = tuple(
    _plan(Step(1000.0523, "kill-manager"), behaviour=replace(_PLAIN, exec_s=0.2005 + n * 0.0001)) for n in range(20)
)

# DOWN_UNDONE; to be killed at a boundary after the last daemon has stopped
DOWN_KILLED_AT_THE_END = _plan(Step(1001.0, "down"))
