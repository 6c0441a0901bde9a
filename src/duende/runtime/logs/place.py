"""A place in a log, as text: where a reader stands, so that another may go on exactly there, also after a rotation.

`STEM>STAMP:OFFSET:RECORDS:CHECK` is in the file that comes after the archive of that stamp: the oldest later archive,
or while there is none, the active file. `STEM=STAMP:…` is in that archive. `OFFSET` is in (uncompressed) bytes, always
between two lines; `RECORDS` were handed on from there already, while a line that is in pieces was not whole. `CHECK`
tells whether it is still the file that was meant, since archives are pruned. For others than us it is opaque.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

__all__ = ["SAMPLE_BYTES", "Place", "check_of"]

SAMPLE_BYTES = 256  # of a file's beginning: with its first times in it, unless it is raw
_FORM = re.compile(r"([^>=:]+)([>=])([0-9TZ.]*):([0-9]{1,18}):([0-9]{1,18}):([0-9a-f]{1,8})")


class Place(NamedTuple):
    """See the file's head."""

    stem: str
    is_archive: bool
    stamp: str
    offset_bytes: int = 0
    records: int = 0
    check: int = 0

    def __str__(self) -> str:
        mark = "=" if self.is_archive else ">"
        return f"{self.stem}{mark}{self.stamp}:{self.offset_bytes}:{self.records}:{self.check:x}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Undo `str`; ValueError for anything else."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a place in a log")
        stem, mark, stamp, offset, records, check = match.groups()
        return cls(stem, mark == "=", stamp, int(offset), int(records), int(check, 16))


def check_of(beginning: bytes) -> int:
    """The check of a file that begins so; of nothing it is 0."""
    return zlib.crc32(beginning)
