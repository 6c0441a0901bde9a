"""The answer to «are you well?»."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["HealthStatus"]


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """Healthy or not, with the time the answer took in milliseconds; make one by `healthy` or `unhealthy`."""

    is_healthy: bool
    latency_ms: float = 0.0
    reason: str = ""

    @classmethod
    def healthy(cls, latency_ms: float = 0.0) -> HealthStatus:
        """All is well."""
        return cls(True, latency_ms)

    @classmethod
    def unhealthy(cls, reason: str, latency_ms: float = 0.0) -> HealthStatus:
        """Not well, and why."""
        return cls(False, latency_ms, reason)

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return {"healthy": self.is_healthy, "latency_ms": self.latency_ms, "reason": self.reason}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> HealthStatus:
        """Undo `to_json`."""
        return cls(bool(data["healthy"]), float(data["latency_ms"]), str(data["reason"]))
