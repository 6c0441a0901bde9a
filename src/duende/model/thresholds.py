"""How much a daemon may use before it is restarted."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ThresholdConfig"]

_LOOK_MAX_S = 10.0
_LOOK_MIN_S = 1.0


@dataclass(frozen=True, slots=True)
class ThresholdConfig:
    """0 is no threshold. `lasting` in seconds: how long one must be passed without a break."""

    memory: int = 0  # bytes of the whole tree, shared pages in proportion (PSS)
    cpu: float = 0.0  # percent of one processor, the whole tree
    open_files: int = 0  # of the process of the tree that has most
    lasting: float = 30.0

    @property
    def any(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.memory or self.cpu or self.open_files)

    @property
    def interval_s(self) -> float:
        """Time between two looks: three in a row at least, and not more often than a look is worth."""
        return min(_LOOK_MAX_S, max(_LOOK_MIN_S, self.lasting / 3.0))
