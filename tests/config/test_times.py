"""Cron expressions and time zones: what the machine has to have, and what is said when it has not."""

from __future__ import annotations

import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from duende.config import times
from duende.config.daemon import DaemonConfig, ScheduleConfig
from duende.config.load import load_text
from duende.config.times import zone_of
from duende.errors import ConfigurationError

CRON = '[daemon.x]\ncommand = "true"\nschedule = "0 3 * * *"\n'
EVERY = '[daemon.x]\ncommand = "true"\nevery = "1m"\n'


def error_of(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, label="duende.toml")
    return str(caught.value)


def test_without_cronsim_a_cron_expression_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert error_of(CRON) == (
        "duende.toml:3: daemon.x.schedule: a cron expression needs the package cronsim "
        '(pip install "duende[schedule]"); `every` needs nothing'
    )


def test_without_cronsim_every_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert load_text(EVERY).daemons["x"].schedule == ScheduleConfig(every=60.0)


def test_a_configuration_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="bad hour"):
        DaemonConfig("x", command=("true",), schedule=ScheduleConfig(cron="0 24 * * *")).validate()
    with pytest.raises(ConfigurationError, match="only one of cron, every"):
        DaemonConfig("x", command=("true",), schedule=ScheduleConfig(cron="@daily", every=5.0)).validate()
    on_mars = ScheduleConfig(cron="@daily", timezone="Mars/Olympus")
    with pytest.raises(ConfigurationError, match="no time zone"):
        DaemonConfig("x", command=("true",), schedule=on_mars).validate()


def test_the_machines_zone_is_that_of_tz(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("Asia/Kolkata", ":Asia/Kolkata"):
        monkeypatch.setenv("TZ", value)
        assert datetime(2026, 1, 1, tzinfo=zone_of(None)).utcoffset() == timedelta(hours=5, minutes=30)


def test_a_tz_that_is_no_zone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    assert "duende.toml:3: daemon.x.schedule: TZ=" in error_of(CRON)
    assert "set `timezone`" in error_of(CRON)
    assert load_text(CRON.replace('"0 3 * * *"', '{ cron = "0 3 * * *", timezone = "UTC" }'))


def test_without_tz_it_is_that_of_etc_localtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(times, "_LOCALTIME", str(tmp_path / "localtime"))
    assert zone_of(None) is UTC  # a machine that does not say
    found = next(folder for folder in zoneinfo.TZPATH if Path(folder, "Asia/Kolkata").exists())
    (tmp_path / "localtime").symlink_to(Path(found, "Asia/Kolkata"))
    assert datetime(2026, 1, 1, tzinfo=zone_of(None)).utcoffset() == timedelta(hours=5, minutes=30)
    (tmp_path / "localtime").unlink()
    (tmp_path / "localtime").write_bytes(b"no zone")
    with pytest.raises(ValueError, match="cannot read the machine's time zone"):
        zone_of(None)


def test_a_machine_without_zones_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(ValueError, match="it has no time zones at all; install tzdata"):
        zone_of("Nowhere/Land")
    assert zone_of("UTC") is UTC
