"""The platforms a daemon can live on."""

from __future__ import annotations

import enum

__all__ = ["Platform"]


class Platform(enum.Enum):
    """Where we are, or where an instance lives."""

    LINUX = "linux"  # Linux under a booted systemd
    MACOS = "macos"
    CONTAINER = "container"
    PEPITA_MICROVM = "pepita-microvm"
    WOS = "wos"
    NATIVE = "native"

    def __str__(self) -> str:
        return self.value
