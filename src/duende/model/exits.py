"""How an instance ended, in words a person woken at night can use."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from duende.model.signals import Signal

__all__ = ["ExitInfo", "ExitReason", "exit_code_of"]


class ExitReason(enum.Enum):
    """The five ways to end, plus the honest sixth: nobody could tell us."""

    GRACEFUL = "graceful"
    SIGNAL = "signal"
    ERROR = "error"
    RESOURCE_EXHAUSTED = "resource exhausted"
    POLICY_VIOLATION = "policy violation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """What is known of one exit.

    `code` is the exit code 0-255 or None; `signal` the number of the killing signal or None; `errno` is set when the
    program could not be executed at all. `at_s` is Unix time in seconds (0.0 when unknown).
    """

    reason: ExitReason
    message: str
    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    errno: int | None = None
    at_s: float = 0.0
    transient: bool = False  # a failed start that may succeed by itself (EAGAIN, ENOMEM, EMFILE …)

    @classmethod
    def from_code(cls, code: int, *, at_s: float = 0.0) -> ExitInfo:
        """An exit by _exit(2) with `code`."""
        reason = ExitReason.GRACEFUL if code == 0 else ExitReason.ERROR
        return cls(reason, f"exited with code {code}", code=code, at_s=at_s)

    @classmethod
    def from_signal(cls, number: int, *, core_dumped: bool = False, at_s: float = 0.0) -> ExitInfo:
        """A death by signal `number`."""
        text = f"killed by {signal_name(number)}" + (" (core dumped)" if core_dumped else "")
        return cls(ExitReason.SIGNAL, text, signal=number, core_dumped=core_dumped, at_s=at_s)

    @classmethod
    def out_of_memory(cls, *, limit_bytes: int | None, at_s: float = 0.0) -> ExitInfo:
        """A death by the kernel's out-of-memory killer (signal 9)."""
        limit = f" (limit {limit_bytes} bytes)" if limit_bytes else ""
        return cls(ExitReason.RESOURCE_EXHAUSTED, f"out of memory{limit}", signal=9, at_s=at_s)

    @classmethod
    def unknown(cls, why: str, *, at_s: float = 0.0) -> ExitInfo:
        """An exit whose status the kernel did not tell us; treated as a failure."""
        return cls(ExitReason.UNKNOWN, why, at_s=at_s)

    def to_json(self) -> dict[str, Any]:
        """The wire form; every key is always present."""
        return {
            "reason": self.reason.value,
            "message": self.message,
            "code": self.code,
            "signal": self.signal,
            "core_dumped": self.core_dumped,
            "errno": self.errno,
            "at_s": self.at_s,
            "transient": self.transient,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ExitInfo:
        """Undo `to_json`."""
        return cls(
            reason=ExitReason(data["reason"]),
            message=data["message"],
            code=data["code"],
            signal=data["signal"],
            core_dumped=data["core_dumped"],
            errno=data["errno"],
            at_s=data["at_s"],
            transient=data["transient"],
        )


# signal(7), x86 and ARM column: the standard signals that are not in `Signal` but may kill a program.
_OTHER_SIGNALS = {
    4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM",
    16: "SIGSTKFLT", 17: "SIGCHLD", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU",
    25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}  # fmt: skip


def signal_name(number: int) -> str:
    """`SIGSEGV` for 11; `signal 40` where the number has no standard name."""
    if number in _OTHER_SIGNALS:
        return _OTHER_SIGNALS[number]
    try:
        return Signal(number).full_name
    except ValueError:
        return f"signal {number}"


def exit_code_of(exit_info: ExitInfo | None) -> int:
    """What a process that stands for this one ends with, as a shell does it: 128 + signal; 1 where nobody knows."""
    if exit_info is None:
        return 1
    if exit_info.signal is not None:
        return 128 + exit_info.signal
    return exit_info.code if exit_info.code is not None else 1
