"""What a worker is told of its places: the stack's state directory, or its own user's."""

from __future__ import annotations

import os
from typing import Any

import pytest

from duende.adapters.native.places import for_worker, of_stack
from duende.adapters.native.users import Account
from duende.config.daemon import DaemonConfig
from duende.model.signals import Signal

PLACES = of_stack("shop", {"state_dir": "/var/lib/duende/shop", "config_file": "/etc/shop/duende.toml"})
CLASS = DaemonConfig(name="web", daemon="web:Web", reload_signal=Signal.USR1)


def _told(account: Account, base: dict[str, str] | None = None) -> dict[str, Any]:
    return for_worker(CLASS, account, base or {}, PLACES)


@pytest.mark.parametrize("account", [Account(), Account(uid=os.geteuid())])
def test_the_managers_own_user_keeps_state_in_the_stacks_directory(account: Account) -> None:
    told = _told(account)
    assert told["state_dir"] == "/var/lib/duende/shop/daemons/web"
    assert told["config_file"] == "/etc/shop/duende.toml"
    assert told["reload_signal"] == 10
    assert told["config_read"]


def test_another_user_keeps_it_below_its_home_since_the_stacks_directory_is_closed() -> None:
    other = Account(uid=os.geteuid() + 1, environment=(("HOME", "/home/ann"),))
    assert _told(other)["state_dir"] == "/home/ann/.local/state/duende/shop/daemons/web"
    assert _told(Account(uid=os.geteuid() + 1, environment=(("HOME", "/"),)))["state_dir"] == ""


def test_the_layers_of_the_managers_environment_are_passed_on_and_nothing_else() -> None:
    base = {"DUENDE_DAEMON__WEB__SETTINGS__PORT": "90", "DUENDE_STATE_DIR": "/x", "PATH": "/bin"}
    assert _told(Account(), base)["layers"] == {"DUENDE_DAEMON__WEB__SETTINGS__PORT": "90"}


def test_a_command_is_told_nothing() -> None:
    assert for_worker(DaemonConfig(name="web", command=("true",)), Account(), {}, PLACES) == {}
