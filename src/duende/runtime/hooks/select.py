"""Which hooks an event is for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from duende.config.hook import HookConfig
from duende.model.eventkinds import words_of

__all__ = ["Selection", "wants"]


def wants(hook: HookConfig, event: Mapping[str, Any]) -> bool:
    """Whether the hook is to be told.

    What is told again is not, nor what would go round in a circle: a hook's own trouble, and the events of the very
    daemon that it starts.
    """
    data = event["data"]
    if data.get("again") or data.get("hook") == hook.name:
        return False
    daemon = event["daemon"]
    if hook.daemons and not any(_is_of(daemon, pattern) for pattern in hook.daemons):
        return False
    if hook.start is not None and _is_of(daemon, hook.start):
        return False
    words = words_of(event["kind"], event["status"])
    return any(fnmatchcase(word, pattern) for pattern in hook.on for word in words)


def _is_of(daemon: str, pattern: str) -> bool:
    """A name or glob, or the name of a daemon that `daemon` is a replica of."""
    return bool(daemon) and (fnmatchcase(daemon, pattern) or fnmatchcase(daemon, f"{pattern}.[0-9]*"))


class Selection:
    """All hooks, such that those of one daemon cost the events of the others nothing (`on_failure`, of which a stack
    may have thousands).
    """

    def __init__(self, hooks: Iterable[HookConfig]) -> None:
        self._anywhere: list[HookConfig] = []
        self._of_one: dict[str, list[HookConfig]] = {}
        for hook in hooks:
            if hook.name.startswith("on_failure:"):
                self._of_one.setdefault(hook.daemons[0], []).append(hook)
            else:
                self._anywhere.append(hook)

    def hooks_for(self, event: Mapping[str, Any]) -> list[HookConfig]:
        """The hooks that are to be told."""
        return [hook for hook in (*self._of_one.get(event["daemon"], ()), *self._anywhere) if wants(hook, event)]
