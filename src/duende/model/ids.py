"""The identity of a daemon: a UUID that stays the same through restarts, upgrades and reboots."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

__all__ = ["DaemonId"]


@dataclass(frozen=True, slots=True, order=True)
class DaemonId:
    """A daemon's UUID; as text in the canonical hyphenated form (RFC 9562)."""

    value: uuid.UUID

    @classmethod
    def new(cls) -> DaemonId:
        """A new random id."""
        return cls(uuid.uuid4())

    @classmethod
    def parse(cls, text: str) -> DaemonId:
        """Read the canonical form; ValueError otherwise."""
        return cls(uuid.UUID(text))

    def __str__(self) -> str:
        return str(self.value)
