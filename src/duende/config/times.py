"""Cron expressions and time zones: read, checked, and looked up on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from duende.config.kinds import Kind, Reader, duration
from duende.config.locate import KeyPath

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = ["cron", "interval", "timezone", "zone_of"]

_LOCALTIME = "/etc/localtime"  # tzset(3): the machine's zone where TZ says nothing
_INTERVAL_MIN_S = 1.0  # below it, starting a process would be most of the work; write a loop
_TOOL = 'pip install "duende[schedule]"'


def _read_cron(reader: Reader, at: KeyPath, value: object) -> str:
    return " ".join(reader.text(value).split())


def _check_cron(value: str) -> str:
    from duende.core.schedule import cron_fields  # here: only who uses cron needs it

    try:
        cron_fields(value)
    except ValueError as error:
        return str(error)
    except ModuleNotFoundError:
        return f"a cron expression needs the package cronsim ({_TOOL}); `every` needs nothing"
    return ""


cron = Kind(
    "cron",
    'a cron expression such as "*/5 * * * *" or "@daily"',
    {"type": "string", "pattern": r"\$\{|^\s*(@[A-Za-z]+|\S+(\s+\S+){4})\s*$"},
    _read_cron,
    check=_check_cron,
    is_text=True,
)


def _interval() -> Kind:
    plain = duration(positive=True)

    def check(value: float) -> str:
        too_short = 0 < value < _INTERVAL_MIN_S
        return f"must be at least {_INTERVAL_MIN_S:g} s, found {value:g} s" if too_short else plain.check(value)

    schema = {"anyOf": [plain.schema["anyOf"][0], {"type": "number", "minimum": _INTERVAL_MIN_S}]}
    return Kind(plain.name, plain.expected, schema, plain.read, plain.types, check)


interval = _interval()


def _read_text(reader: Reader, at: KeyPath, value: object) -> str:
    return reader.text(value)


def _check_timezone(value: str) -> str:
    try:
        zone_of(value)
    except ValueError as error:
        return str(error)
    return ""


timezone = Kind(
    "time zone",
    'a time zone such as "Europe/Berlin" or "UTC"',
    {"type": "string", "minLength": 1},
    _read_text,
    check=_check_timezone,
    is_text=True,
)


def zone_of(name: str | None) -> tzinfo:
    """The zone of that IANA name; of None, the machine's. ValueError when it can't be had here, and why."""
    import zoneinfo  # here: only who uses cron needs it
    from datetime import UTC

    if name == "UTC":
        return UTC
    if name is None:
        return _local_zone()

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'there is no time zone "{name[:60]}" on this machine{_hint(name)}') from None


def _hint(name: str) -> str:
    import difflib  # here: only wrong files pay for it
    import zoneinfo

    known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
    if not known:
        return ": it has no time zones at all; install tzdata, the system's or Python's"
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean `{known[near[0]]}`?" if near else '; names are like "Europe/Berlin"'


def _local_zone() -> tzinfo:
    """As tzset(3) finds it; the C library knows it, but does not tell of its changes to come."""
    import zoneinfo
    from datetime import UTC

    if name := os.environ.get("TZ", "").removeprefix(":"):
        try:
            return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f'TZ="{name[:60]}" in the environment names no time zone; set `timezone`') from None
    try:
        with open(_LOCALTIME, "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file)
    except FileNotFoundError:
        return UTC  # tzset(3): a machine that does not say
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the machine's time zone {_LOCALTIME}: {error}; set `timezone`") from None
