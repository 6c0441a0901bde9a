"""What a daemon may use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ResourceConfig"]


@dataclass(frozen=True, slots=True)
class ResourceConfig:
    """Limits of one instance; None or 0 means the platform's default (no limit of ours).

    Sizes are bytes, `cpu_quota_percent` is percent of one CPU (150 = one and a half), `cpu_shares` is the cgroup v1
    weight (2-262144, default 1024), bandwidths are bytes per second.
    """

    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    cpu_quota_percent: float | None = None
    cpu_shares: int | None = None
    io_read_bps: int | None = None
    io_write_bps: int | None = None
    pids_max: int | None = None
    open_files_max: int | None = None
    core_size_bytes: int | None = None
    lock_memory: bool = False
    lock_memory_required: bool = False
