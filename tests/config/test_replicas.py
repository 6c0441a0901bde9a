"""Replicas: names, numbers in strings, and dependencies on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from duende.config.load import load_text
from duende.config.replicas import expand_replicas
from duende.errors import ConfigurationError

TEXT = """
[daemon.web]
daemon = "a:B"
args = ["{instance}"]
settings = { port = "808{instance}", list = ["{{instance}}"], n = 1 }
env = { N = "{instance}" }
pid_file = "web{instance}.pid"
ready = { tcp = "127.0.0.1:808{instance}" }
health_check = { exec = ["probe", "{instance}"] }
log = { directory = "log-{instance}" }
replicas = 2
[daemon.db]
command = "db {instance}"
[daemon.front]
command = "f"
after = ["web", "db"]
"""


def test_each_replica_has_its_name_and_number() -> None:
    stack = expand_replicas(load_text(TEXT, directory="/d", environ={}))
    assert list(stack.daemons) == ["web.1", "web.2", "db", "front"]
    second = stack.daemons["web.2"]
    assert (second.name, second.instance, second.args) == ("web.2", 2, ("2",))
    assert dict(second.settings) == {"port": "8082", "list": ["{instance}"], "n": 1}
    assert (second.env["N"], second.pid_file, second.ready.tcp) == ("2", Path("/d/web2.pid"), "127.0.0.1:8082")
    assert (second.health_check.exec, second.log.directory) == (("probe", "2"), Path("/d/log-2"))
    assert stack.daemons["db"].command == ("db", "1")
    assert list(stack.daemons["front"].after) == ["web.1", "web.2", "db"]


def test_counts_override_and_may_be_none_at_all() -> None:
    stack = load_text(TEXT, directory="/d", environ={})
    assert list(expand_replicas(stack, {"web": 3}).daemons)[:3] == ["web.1", "web.2", "web.3"]
    assert list(expand_replicas(stack, {"web": 1, "db": 0}).daemons) == ["web", "front"]
    assert list(expand_replicas(stack, {"db": 0}).daemons["front"].after) == ["web.1", "web.2"]


def test_counts_that_contradict_are_refused() -> None:
    stack = load_text('[daemon.a]\ncommand="x"\npid_file="p"\n[daemon."b.2"]\ncommand="x"\n[daemon.b]\ncommand="x"')
    with pytest.raises(ConfigurationError, match="3 replicas would share one pid file"):
        expand_replicas(stack, {"a": 3})
    with pytest.raises(ConfigurationError, match="is also the name of a replica of b"):
        expand_replicas(stack, {"b": 2})
    with pytest.raises(ConfigurationError, match="must be 0 to 10000"):
        expand_replicas(stack, {"b": -1})
