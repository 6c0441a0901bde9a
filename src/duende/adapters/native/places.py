"""Where a Python-class instance keeps its state, and which file its settings can be read from again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from duende.adapters.native.users import Account
from duende.config.daemon import DaemonConfig
from duende.system.process import boot_id

__all__ = ["for_worker", "of_stack"]

_LAYER_PREFIX = "DUENDE_DAEMON__"  # duende/config/layers.py; a daemon does not inherit these variables


def of_stack(stack: str, places: Mapping[str, str]) -> dict[str, str]:
    """The same for all daemons of a manager; with the time at which it has read its configuration."""
    return {**places, "stack": stack, "config_read": f"{boot_id()} {time.clock_gettime(time.CLOCK_BOOTTIME)}"}


def for_worker(
    config: DaemonConfig, account: Account, base: Mapping[str, str], places: Mapping[str, str]
) -> dict[str, Any]:
    """What duende/worker/places.py reads.

    The stack's state directory is the manager's alone; a daemon that runs as another user has its own below its home.
    """
    if config.daemon is None:
        return {}
    state_dir = places.get("state_dir", "")
    if account.uid not in (None, os.geteuid()):
        home = dict(account.environment).get("HOME", "/")
        state_dir = f"{home}/.local/state/duende/{places.get('stack', '')}" if home != "/" else ""
    return {
        "state_dir": f"{state_dir}/daemons/{config.name}" if state_dir else "",
        "config_file": places.get("config_file", ""),
        "config_read": places.get("config_read", ""),
        "layers": {name: value for name, value in base.items() if name.startswith(_LAYER_PREFIX)},
        "reload_signal": int(config.reload_signal),
    }
