"""Adapters: one platform each. `base` is their contract; `select_adapter` finds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duende.adapters.base import Capabilities, PlatformAdapter, Probe
    from duende.adapters.native.adapter import NativeAdapter
    from duende.adapters.registry import select_adapter

__all__ = ["Capabilities", "NativeAdapter", "PlatformAdapter", "Probe", "select_adapter"]

_HOMES = {
    "Capabilities": "duende.adapters.base",
    "PlatformAdapter": "duende.adapters.base",
    "Probe": "duende.adapters.base",
    "NativeAdapter": "duende.adapters.native.adapter",
    "select_adapter": "duende.adapters.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # here: most importers of this package want one submodule only

    return getattr(importlib.import_module(_HOMES[name]), name)
