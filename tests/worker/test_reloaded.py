"""Reloaded settings outlive the instance, until the manager has read or told something else."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import duende
from duende.system.process import boot_id
from duende.worker.places import Places
from duende.worker.reloaded import remember, with_last_reload

CONFIG = duende.DaemonConfig(name="web", settings={"port": 80})


@pytest.fixture
def places(tmp_path: Path) -> Places:
    read = f"{boot_id()} {time.clock_gettime(time.CLOCK_BOOTTIME)}"
    return Places(state_dir=str(tmp_path / "s"), config_read=read, settings={"port": 80})


def test_they_hold_for_the_next_incarnation(places: Places) -> None:
    assert with_last_reload(CONFIG, places) is CONFIG
    remember({"port": 81}, places)
    assert with_last_reload(CONFIG, places).settings == {"port": 81}
    assert with_last_reload(CONFIG, places).settings == {"port": 81}


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"port": 82}},  # the manager tells something else
        {"config_read": f"{boot_id()} {time.clock_gettime(time.CLOCK_BOOTTIME) + 3600}"},  # it has read since
        {"config_read": "another-boot 1.0"},
        {"config_read": ""},  # there is no manager
    ],
)
def test_what_the_manager_has_read_since_is_newer(places: Places, change: dict[str, Any]) -> None:
    remember({"port": 81}, places)
    assert with_last_reload(CONFIG, replace(places, **change)) is CONFIG


def test_a_file_that_makes_no_sense_is_told_and_ignored(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    remember({"port": 81}, places)
    path = Path(places.state_dir, "reloaded.json")
    path.write_text("{")
    assert with_last_reload(CONFIG, places) is CONFIG
    assert f"web: the configured settings hold, since {path} can't be read" in capfd.readouterr().err


@dataclass
class Settings:
    port: int


def test_a_reload_in_the_foreground_reads_the_file_of_its_configuration(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "duende.toml"

    def write(port: str) -> None:
        path.write_text(f'[daemon.web]\ndaemon = "web:Web"\nsettings = {{ port = {port} }}\n')

    class Web(duende.Daemon):
        settings: Settings
        seen: list[object] = []

        def reload(self, new: Settings, old: Settings) -> None:
            self.seen.append((old.port, new.port))

        def run(self, ctx: duende.DaemonContext) -> None:
            write("81")
            os.kill(os.getpid(), signal.SIGHUP)
            assert ctx.recv_signal(20) is duende.Signal.HUP
            self.seen.append(self.settings)
            write("true")
            os.kill(os.getpid(), signal.SIGHUP)
            while "reload refused" not in (said := capfd.readouterr().err):
                ctx.sleep(0.005)
            self.seen.append(said)

    # A class in a function: its annotation is no name that could be looked up later.
    Web.__annotations__["settings"] = Settings
    write("80")
    assert duende.run(Web(), config=duende.DaemonConfig.load(path)) == 0
    assert Web.seen[:2] == [(80, 81), Settings(81)]
    assert f"{path}:3: daemon.web.settings.port: expected an integer, found true" in str(Web.seen[2])
