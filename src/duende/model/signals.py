"""The signals a daemon can be sent. Numbers are Linux's on the wire, whatever the platform."""

from __future__ import annotations

import enum

__all__ = ["Signal"]


class Signal(enum.IntEnum):
    """A signal by its Linux number (signal(7), x86 and ARM column)."""

    HUP = 1
    INT = 2
    QUIT = 3
    KILL = 9
    USR1 = 10
    USR2 = 12
    TERM = 15
    CONT = 18
    STOP = 19

    @classmethod
    def parse(cls, text: str | int) -> Signal:
        """Read `15`, `"15"`, `"TERM"`, `"SIGTERM"` or `"sigterm"`; ValueError lists what is known."""
        try:
            if isinstance(text, int):
                return cls(text)
            if text.isdigit():
                return cls(int(text))
            name = text.upper()
            return cls[name[3:] if name.startswith("SIG") else name]
        except (KeyError, ValueError):
            known = ", ".join(f"SIG{member.name}" for member in cls)
            raise ValueError(f"unknown signal {text!r}; known are {known}") from None

    @property
    def full_name(self) -> str:
        """`SIGTERM` and so on."""
        return f"SIG{self.name}"

    @property
    def local_number(self) -> int:
        """The number on Linux; adapters for platforms with other numbers translate by name."""
        return int(self)
