"""What log files are called.

    NAME.log                                    the active file (text, logfmt, JSON: both streams, told apart per line)
    NAME+stdout.log, NAME+stderr.log            the active files of a raw log
    STEM.20261121T023600.123456Z.log[.gz]       an archive; the stamp is when it was rotated away, in UTC
    STEM.20261121T023600.123456Z.log.gz.tmp     an archive while it is compressed

`+` can't occur in a daemon's name, so `web` written raw never meets a daemon that is called `web.stdout`.
Archives of one stem sort by name in the order they were written: stamps only ever grow.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from duende.config.daemon import LogFormat
from duende.errors import ConfigurationError, Problem

__all__ = ["STREAMS", "Archive", "active_path", "check_name", "list_archives", "next_stamp", "stamp_time_s", "stem_for"]

STREAMS = ("stdout", "stderr")

_STAMP_FORMAT = "%Y%m%dT%H%M%S.%fZ"
_STAMP = r"\d{8}T\d{6}\.\d{6}Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The same shape as in the configuration; checked again here because the name becomes a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")


class Archive(NamedTuple):
    """One rotated file; compared by its stamp first."""

    stamp: str
    path: str
    compressed: bool
    size_bytes: int


def check_name(daemon: str) -> None:
    """Raise ConfigurationError for a name that could leave the log directory."""
    if not _NAME.fullmatch(daemon):
        raise ConfigurationError(
            [Problem(f"cannot keep a log for {daemon!r}: not a daemon's name", hint=_NAME.pattern)]
        )


def stem_for(daemon: str, stream: str, log_format: LogFormat) -> str:
    """The part of the file name before `.log`."""
    return f"{daemon}+{stream}" if log_format is LogFormat.RAW else daemon


def active_path(directory: Path, stem: str) -> Path:
    """The file that is written now."""
    return directory / f"{stem}.log"


def list_archives(directory: Path, stem: str) -> list[Archive]:
    """The archives of a stem, oldest first. One that is there both plain and compressed is listed once, as plain.

    The directory is read twice: an archive that changes its name while it is compressed can be missed by readdir(3)
    under both names, but only once.
    """
    return sorted({**_scan(directory, stem), **_scan(directory, stem)}.values())


def _scan(directory: Path, stem: str) -> dict[str, Archive]:
    pattern = re.compile(re.escape(stem) + rf"\.({_STAMP})\.log(\.gz)?")
    found: dict[str, Archive] = {}
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return {}
    with entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match is None or (match[2] and match[1] in found):
                continue
            try:
                size_bytes = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # pruned or compressed since it was listed
            found[match[1]] = Archive(match[1], entry.path, bool(match[2]), size_bytes)
    return found


def next_stamp(wall_ns: int, last: str) -> str:
    """The stamp for `wall_ns`, or the next microsecond after `last` where the clock did not go on (or went back)."""
    stamp = (_EPOCH + timedelta(microseconds=wall_ns // 1000)).strftime(_STAMP_FORMAT)
    if stamp > last:
        return stamp
    return (datetime.strptime(last, _STAMP_FORMAT) + timedelta(microseconds=1)).strftime(_STAMP_FORMAT)


def stamp_time_s(stamp: str) -> float:
    """When, in seconds since the epoch."""
    return datetime.strptime(stamp, _STAMP_FORMAT).replace(tzinfo=UTC).timestamp()
