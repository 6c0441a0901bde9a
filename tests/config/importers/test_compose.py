"""docker compose files: the process part of each service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from duende.config.importers.compose_words import duration_s, interpolated, size_bytes
from duende.config.importers.draft import spelled
from duende.config.interpolate import interpolate
from duende.errors import ConfigurationError
from tests.config.importers.conftest import Bring
from tests.config.importers.test_supervisord import value_of

HEAD = "services:\n  db: {command: db, healthcheck: {test: [CMD, ok]}}\n  p:\n    command: a\n"
P_LINE = 5  # of the line that a case adds


@pytest.mark.parametrize(("line", "path", "wanted"), [
    ("command: a 'b c' $$x ${PORT}", "command", ("a", "b c", "$x", "9000")),
    ("command: [a, 1, yes, 1.10, \"$${X}\"]", "command", ("a", "1", "yes", "1.10", "${X}")),
    ("entrypoint: [/e, -x]", "command", ("/e", "-x", "a")),
    ("environment: {A: 1, B: yes, C: '', D: , E: 22:22, F: '${NO}'}", "env",
     {"A": "1", "B": "yes", "C": "", "E": "22:22", "F": ""}),
    ("environment: [A=1, B, C=x=y, 'D=${PORT:-1}', 'E=${NO:-x${PORT}}']", "env",
     {"A": "1", "C": "x=y", "D": "9000", "E": "x9000"}),
    ("depends_on: [db]", "after", {"db": "started"}),
    ("depends_on: {db: {condition: service_healthy}}", "after", {"db": "healthy"}),
    ("depends_on: {db: {condition: service_completed_successfully}}", "after", {"db": "completed"}),
    ("restart: always", "restart.policy", "always"),
    ("restart: unless-stopped", "restart.policy", "unless-stopped"),
    ("restart: \"no\"", "restart.policy", "never"),
    ("restart: no", "restart.policy", "never"),
    ("scale: 1", "restart.policy", "never"),
    ("restart: on-failure:7", "restart.backoff.max_retries", 7),
    ("restart: always", "restart.reset_after", 10.0),
    ("healthcheck: {test: 'a && b'}", "health_check.exec", ("/bin/sh", "-c", "a && b")),
    ("healthcheck: {test: [CMD-SHELL, 'a $$X'], interval: 1m30s}", "health_check.interval", 90.0),
    ("healthcheck: {test: [CMD, a], timeout: 500ms}", "health_check.timeout", 0.5),
    ("healthcheck: {test: [CMD, a]}", "health_check.timeout", 30.0),
    ("healthcheck: {test: [CMD, a], retries: 9}", "health_check.retries", 9),
    ("healthcheck: {test: [NONE]}", "health_check.exec", None),
    ("healthcheck: {disable: true}", "health_check.exec", None),
    ("healthcheck: {test: [CMD, a], start_period: 9s}", "probe.startup.exec", ("a",)),
    ("healthcheck: {test: [CMD, a], start_period: 9s}", "probe.startup.interval", 5.0),
    ("healthcheck: {test: [CMD, a], start_period: 9s, start_interval: 2s}", "probe.startup.interval", 2.0),
    ("healthcheck: {test: [CMD, a], start_period: 0s}", "probe.startup", None),
    ("user: \"1000:33\"", "group", "33"),
    ("user: ann", "user", "ann"),
    ("working_dir: /srv", "working_dir", Path("/srv")),
    ("stop_signal: SIGQUIT", "stop_signal", 3),
    ("stop_grace_period: 1m5s", "shutdown_timeout", 65.0),
    ("scale: 3", "replicas", 3),
    ("deploy: {replicas: 3}", "replicas", 3),
    ("deploy: {resources: {limits: {memory: 512M}}}", "resources.memory_bytes", 512 * 1024**2),
    ("deploy: {resources: {limits: {cpus: '0.5'}}}", "resources.cpu_quota_percent", 50.0),
    ("deploy: {resources: {limits: {pids: 20}}}", "resources.pids_max", 20),
    ("deploy: {restart_policy: {condition: on-failure, delay: 3s, max_attempts: 4, window: 2m}}",
     "restart.backoff.initial_delay", 3.0),
    ("deploy: {restart_policy: {}}", "restart.policy", "always"),
    ("mem_limit: 64m", "resources.memory_bytes", 64 * 1024**2),
    ("cpus: 1.5", "resources.cpu_quota_percent", 150.0),
    ("cpu_shares: 512", "resources.cpu_shares", 512),
    ("pids_limit: -1", "resources.pids_max", None),
    ("ulimits: {nofile: {soft: 5, hard: 9}}", "resources.open_files_max", 9),
    ("logging: {driver: local, options: {max-size: 1m, max-file: '4'}}", "log.keep", 3),
    ("x-mine: {a: 1}", "replicas", 1),
])  # fmt: skip
def test_a_compose_key_means_the_same(bring: Bring, line: str, path: str, wanted: object) -> None:
    outcome = bring("compose.yaml", f"{HEAD}    {line}\n")
    found = value_of(outcome["p"], path)
    assert ({name: one.value for name, one in found.items()} if path == "after" else found) == wanted
    assert not outcome.dropped, outcome.said


@pytest.mark.parametrize("line", [
    "image: x", "build: .", "volumes: [a:/b]", "networks: [x]", "ports: ['80:80']", "container_name: x", "extends: {}",
    "secrets: [x]", "labels: {a: b}", "profiles: [x]", "privileged: true", "nonsense: 1", "restart: sometimes",
    "stop_signal: WINCH", "stop_grace_period: soon", "scale: x", "healthcheck: {interval: 1s}", "user: ${A:+b}",
    "mem_limit: lots", "memswap_limit: 1g", "working_dir: ${A", "pids_limit: x",
    "healthcheck.nonsense: {test: [CMD, a], nonsense: 1s}", "depends_on.db: {db: {condition: odd}}",
    "depends_on.db.restart: {db: {condition: service_started, restart: true}}",
    "depends_on.nobody: {nobody: {condition: service_started}}",
    "deploy.resources.reservations: {resources: {reservations: {cpus: '1'}}}", "deploy.mode: {mode: global}",
    "deploy.restart_policy: {restart_policy: {condition: odd}}", "ulimits.nproc: {nproc: 5}",
    "logging.driver: {driver: syslog}", "environment.A: {A: $}", "environment.A=B: {'A=B': 1}",
    "healthcheck.retries: {test: [CMD, a], retries: 0}",
])  # fmt: skip
def test_what_compose_has_and_duende_lacks_is_named(bring: Bring, line: str) -> None:
    key, _, value = line.partition(": ")
    outcome = bring("compose.yaml", f"{HEAD}    {key.partition('.')[0]}: {value}\n")
    assert (P_LINE, f"services.p.{key}") in outcome.dropped, outcome.said
    assert "p" in outcome.stack.daemons


def test_a_service_that_only_the_image_knows_is_named_and_so_is_who_waits_for_it(bring: Bring) -> None:
    text = "services:\n  cache:\n    image: redis\n  p:\n    command: a\n    depends_on: [cache]\n"
    outcome = bring("compose.yaml", text)
    assert outcome.only.name == "p"
    assert set(outcome.dropped) == {(3, "services.cache.image"), (2, "services.cache"), (6, "services.p.depends_on")}


def test_names_top_level_parts_and_merges(bring: Bring) -> None:
    outcome = bring("docker-compose.yml", (
        "version: '3'\nname: my_shop\nx-base: &base\n  restart: always\n  command: base\n"
        "services:\n  _odd name:\n    <<: *base\n    command: own\nvolumes: {a: }\n"
    ))  # fmt: skip
    assert outcome.stack.name == "my_shop"
    assert (outcome.only.name, outcome.only.command) == ("odd-name", ("own",))
    assert value_of(outcome.only, "restart.policy") == "always"
    assert outcome.dropped == [(10, "volumes")]


def test_env_files_and_the_env_beside(bring: Bring) -> None:
    text = "services:\n  p:\n    command: a ${KEY} ${PORT}\n    env_file: [a.env, {path: no.env, required: false}]\n"
    outcome = bring("compose.yaml", text, {"a.env": "A=1\n", ".env": "KEY=from file\nPORT=1\n"})
    assert outcome.only.command == ("a", "from file", "9000")
    assert outcome.only.env == {"A": "1"}
    assert not outcome.dropped


@pytest.mark.parametrize(("text", "environ", "wanted"), [
    ("$A ${A} $$A", {"A": "1"}, "1 1 $A"),
    ("${A-x}${A:-y}", {}, "xy"),
    ("${A:-a$$b${B}c}", {"B": "-"}, "a$b-c"),
    ("${A:-${B:-x}}", {}, "x"),
    ("a}b${A}c{d}", {"A": "1"}, "a}b1c{d}"),
])  # fmt: skip
def test_variables_hold_the_same(text: str, environ: dict[str, str], wanted: str) -> None:
    assert interpolate(spelled(interpolated(text, {}), is_numbered=False), environ) == wanted


@pytest.mark.parametrize("text", ["$", "$1", "${", "${A", "${A:+b}", "${A/b/c}", "${A:-b\\}", "${A:-${B}"])
def test_variables_that_duende_cannot_write_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        interpolated(text, {}) if text != "${A:-b\\}" else interpolated("${A:-$${}}}", {"A": "}"})


def test_quantities() -> None:
    assert [size_bytes(one) for one in ("1k", "1KB", "1.5m", "7b", 9)] == [1024, 1024, 1572864, 7, 9]
    assert [duration_s(one) for one in ("1h1m1s", "1.5s", "200us", "0")] == [3661.0, 1.5, 0.0002, 0.0]
    for wrong in ("", "1x", "x", "-1m"):
        with pytest.raises(ValueError):
            size_bytes(wrong)
        with pytest.raises(ValueError):
            duration_s(wrong)


@pytest.mark.parametrize(("text", "words"), [
    ("services:\n  a: [\n", "is not YAML"),
    ("a: 1\n", "has no services"),
    ("", "is empty"),
    ("services: {? [x] : 1}\n", "has a key that is no plain word"),
    ("services: &a\n  x: *a\n", "an alias makes it endless"),
    ("services: {a: " + "[" * 200 + "]" * 200 + "}", "endless or too large"),
    ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nservices: [*e,*e,*e,*e,*e,*e]\n",
     "endless or too large"),
    ("services: {a: 1}\n", "is not a mapping"),
])  # fmt: skip
def test_yaml_that_gives_nothing_says_why(bring: Bring, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bring("compose.yaml", text)
    assert words in str(caught.value)


def test_without_pyyaml_it_is_told_what_to_install(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigurationError) as caught:
        bring("compose.yaml", HEAD)
    assert "PyYAML, which is not installed (install it: pip install 'duende[import]')" in str(caught.value)
