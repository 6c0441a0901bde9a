"""Which adapter serves which platform. Other packages add theirs by an entry point in the group `duende.adapters`."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from duende.adapters.base import PlatformAdapter
from duende.errors import NotSupported
from duende.model.platform import Platform

__all__ = ["known_platforms", "select_adapter"]

_GROUP = "duende.adapters"


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=_GROUP)}


def known_platforms() -> list[str]:
    """The names that `platform = "…"` may take here."""
    return sorted({"native", *_entry_points()})


def select_adapter(platform: Platform | str, **options: Any) -> PlatformAdapter:
    """Make the adapter of `platform`; `options` go to its constructor. NotSupported names what there is."""
    name = platform.value if isinstance(platform, Platform) else platform
    if name == "native":
        from duende.adapters.native.adapter import NativeAdapter  # here: each platform is imported only when used

        return NativeAdapter(**options)
    point = _entry_points().get(name)
    if point is None:
        raise NotSupported(name, f"running daemons (this installation knows: {', '.join(known_platforms())})")
    adapter = point.load()(**options)
    if not isinstance(adapter, PlatformAdapter):
        raise TypeError(f"entry point {point.name} of {_GROUP} makes {type(adapter).__name__}, not a PlatformAdapter")
    return adapter
