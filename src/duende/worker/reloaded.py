"""Settings that a reload has brought, for the incarnations after it: the manager still has those that it has read.

They are kept in the daemon's state directory together with what the manager had told, and hold as long as it tells the
same and has not read its configuration since: what it has read later is newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from duende.config.daemon import DaemonConfig
from duende.system.process import boot_id
from duende.worker.places import Places

__all__ = ["remember", "with_last_reload"]


def remember(settings: Mapping[str, Any], places: Places) -> None:
    """Keep them; OSError when that can't be done, ValueError where JSON can't say them."""
    if not places.state_dir or not places.config_read:
        return  # in the foreground every start reads the file
    said = {"told": places.settings, "boot_id": boot_id(), "at_s": time.clock_gettime(time.CLOCK_BOOTTIME),
            "settings": dict(settings)}  # fmt: skip
    text = json.dumps(said)
    os.makedirs(places.state_dir, 0o700, exist_ok=True)
    beside = f"{_path(places)}.new"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, _path(places))


def with_last_reload(config: DaemonConfig, places: Places) -> DaemonConfig:
    """The configuration with the settings of the last reload, where those still hold."""
    if not places.state_dir or not places.config_read:
        return config
    try:
        with open(_path(places), encoding="utf-8") as file:
            said = json.loads(file.read())
        read_boot_id, _, read_s = places.config_read.partition(" ")
        holds = said["boot_id"] == read_boot_id and said["at_s"] > float(read_s) and said["told"] == places.settings
        settings = dict(said["settings"])
    except FileNotFoundError:
        return config  # never reloaded
    except (OSError, ValueError, KeyError, TypeError) as error:
        from duende.worker.life import say

        say(f"{config.name}: the configured settings hold, since {_path(places)} can't be read: {error}")
        return config
    if not holds:
        with contextlib.suppress(OSError):  # it will be replaced some day, and holds no more in any case
            os.unlink(_path(places))
        return config
    return replace(config, settings=MappingProxyType(settings))


def _path(places: Places) -> str:
    return f"{places.state_dir}/reloaded.json"
