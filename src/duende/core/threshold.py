"""When a daemon uses too much for too long. Pure: samples in, a verdict out.

A threshold is passed when every sample of the last `lasting_s` seconds was over it; one below begins anew. The share of
a processor is that between two samples, so the first sample after a start says nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from duende.model.thresholds import ThresholdConfig

__all__ = ["Sample", "ThresholdWatch"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a tree uses at `at_s` on the boot-time clock: bytes, CPU seconds so far, open files of the process
    that has most. None where it could not be found out, which ends no row and begins none.
    """

    at_s: float
    memory_bytes: int | None = None
    cpu_s: float | None = None
    open_files: int | None = None


@dataclass(slots=True)
class ThresholdWatch:
    """One incarnation's samples."""

    config: ThresholdConfig
    _over_since_s: dict[str, float] = field(default_factory=dict)
    _last: Sample | None = None

    def judge(self, sample: Sample) -> str:
        """Why the daemon must be restarted now; empty when it need not."""
        config, last, self._last = self.config, self._last, sample
        share = _cpu_share(last, sample)
        texts = (
            self._row("memory", sample.memory_bytes, config.memory, sample.at_s, _bytes),
            self._row("cpu", share, config.cpu, sample.at_s, lambda value: f"{value:.0f} %"),
            self._row("open files", sample.open_files, config.open_files, sample.at_s, lambda value: f"{value:.0f}"),
        )
        return "; ".join(filter(None, texts))

    def _row(self, name: str, value: float | None, limit: float, at_s: float, show: object) -> str:
        assert callable(show)
        if limit <= 0 or value is None:
            return ""
        if value <= limit:
            self._over_since_s.pop(name, None)
            return ""
        since_s = self._over_since_s.setdefault(name, at_s)
        if at_s - since_s < self.config.lasting:
            return ""
        lasting = f" for {self.config.lasting:g} s" if self.config.lasting else ""
        return f"{name} {show(value)}, over {show(limit)}{lasting}"


def _cpu_share(last: Sample | None, now: Sample) -> float | None:
    """Percent of one processor since the last sample; never negative: an ended process takes its seconds along."""
    if last is None or last.cpu_s is None or now.cpu_s is None or now.at_s <= last.at_s:
        return None
    return max(0.0, (now.cpu_s - last.cpu_s) / (now.at_s - last.at_s) * 100.0)


def _bytes(value: float) -> str:
    return f"{value / 1048576:.1f} MiB"
