"""Whole files as one meets them, one of each kind: every daemon, and exactly what is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.importers.conftest import ENVIRON, Bring
from tests.config.importers.test_supervisord import value_of

DJANGO = """\
; /etc/supervisor/conf.d/shop.conf

[group:shop]
programs=gunicorn,celery,beat

[program:gunicorn]
command=/srv/shop/venv/bin/gunicorn shop.wsgi:application
    --workers 4                 ; one per core
    --bind unix:/run/shop/gunicorn.sock
directory=/srv/shop
user=www-data
environment=DJANGO_SETTINGS_MODULE="shop.settings.prod",SECRET_KEY="%(ENV_SECRET)s",PERCENT="50%%"
autostart=true
autorestart=true
startsecs=5
stopsignal=TERM
stopwaitsecs=30
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=/var/log/shop/gunicorn.log
stdout_logfile_maxbytes=50MB
stdout_logfile_backups=10

[program:celery]
command=/srv/shop/venv/bin/celery -A shop worker -l info -n w%(process_num)d@%%h
process_name=%(program_name)s_%(process_num)02d
numprocs=2
directory=/srv/shop
user=www-data
stopwaitsecs=600
priority=998

[program:beat]
command=/srv/shop/venv/bin/celery -A shop beat
autorestart=unexpected
exitcodes=0
stdout_syslog=true

[eventlistener:crashmail]
command=crashmail -a -m ops@example.com
events=PROCESS_STATE
"""

UNIT = """\
[Unit]
Description=PostgreSQL of %p
Documentation=man:postgres(1)
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
User=postgres
Environment=PGDATA=/var/lib/pgsql/data "PGOPTS=-c log_line_prefix=%%m"
EnvironmentFile=-/etc/sysconfig/postgresql-not-here
ExecStartPre=/usr/libexec/postgresql-check-db-dir %N
ExecStart=/usr/bin/postgres -D ${PGDATA} \\
          $PGOPTS
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
KillSignal=SIGINT
OOMScoreAdjust=-1000
TimeoutSec=0
Restart=on-abnormal
LimitNOFILE=65536
MemoryMax=2G
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""

COMPOSE = """\
services:
  db:
    image: postgres:16
    command: ["postgres", "-D", "${PGDATA:-/var/lib/pg}"]
    environment:
      - POSTGRES_PASSWORD=${DB_PASSWORD:?set it}
    healthcheck: &check
      test: ["CMD-SHELL", "pg_isready -U $$POSTGRES_USER || exit 1"]
      interval: 10s
      timeout: 5s
      retries: 5
    restart: unless-stopped
    volumes: ["pg:/var/lib/pg"]
  migrate:
    build: .
    command: ./manage.py migrate
    depends_on:
      db:
        condition: service_healthy
  web:
    build: .
    command: gunicorn -b :${PORT} shop.wsgi
    ports: ["8000:8000"]
    user: "1000:1000"
    depends_on:
      migrate:
        condition: service_completed_successfully
    deploy:
      replicas: 3
      resources:
        limits: {cpus: "0.50", memory: 256M}
    restart: on-failure:5
volumes:
  pg:
"""

ECOSYSTEM = """\
{
  "apps": [{
    "name": "api",
    "script": "dist/server.js",
    "cwd": "/srv/api",
    "instances": 4,
    "exec_mode": "cluster",
    "node_args": "--max-old-space-size=512",
    "max_memory_restart": "600M",
    "env": {"NODE_ENV": "production", "PORT": 3000},
    "env_staging": {"NODE_ENV": "staging"},
    "error_file": "/var/log/api/err.log",
    "out_file": "/var/log/api/out.log",
    "merge_logs": true,
    "kill_timeout": 5000
  }, {
    "name": "worker",
    "script": "./worker.py",
    "interpreter": "python3",
    "autorestart": true,
    "exp_backoff_restart_delay": 100,
    "watch": ["src"]
  }]
}
"""


def restart_of(config: Any) -> tuple[str, int | None, float]:
    backoff = config.restart.backoff
    return config.restart.policy.value, backoff.max_retries, config.restart.reset_after


def test_a_django_shop_under_supervisord(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRON, "SECRET", "s$3")
    outcome = bring("shop.conf", DJANGO)
    assert list(outcome.stack.daemons) == ["shop.gunicorn", "shop.celery_00", "shop.celery_01", "shop.beat"]
    web = outcome["shop.gunicorn"]
    assert web.command == ("/srv/shop/venv/bin/gunicorn", "shop.wsgi:application", "--workers", "4", "--bind",
                           "unix:/run/shop/gunicorn.sock")  # fmt: skip
    assert web.env == {"DJANGO_SETTINGS_MODULE": "shop.settings.prod", "SECRET_KEY": "s$3", "PERCENT": "50%"}
    assert (web.user, str(web.working_dir), web.shutdown_timeout) == ("www-data", "/srv/shop", 30.0)
    assert restart_of(web) == ("always", 3, 5.0)
    assert (str(web.log.directory), web.log.max_size, web.log.keep) == ("/var/log/shop", 50 * 1024**2, 10)
    command = outcome["shop.celery_01"].command
    assert command is not None
    assert command[-1] == "w1@%h"
    assert restart_of(outcome["shop.beat"]) == ("on-failure", 3, 1.0)
    assert outcome.dropped == [
        (32, "[program:celery] priority"), (38, "[program:beat] stdout_syslog"), (40, "[eventlistener:crashmail]")
    ]  # fmt: skip


def test_a_database_under_systemd(bring: Bring) -> None:
    outcome = bring("postgresql.service", UNIT)
    config = outcome.only
    assert config.command == ("/bin/sh", "-c", 'set -f; exec /usr/bin/postgres -D "${PGDATA}" $PGOPTS')
    assert config.env == {"PGDATA": "/var/lib/pgsql/data", "PGOPTS": "-c log_line_prefix=%m"}
    assert config.description == "PostgreSQL of postgresql (man:postgres(1))"
    assert (config.ready.notify, config.start_timeout, config.shutdown_timeout) == (True, 0.0, 604800.0)
    assert (config.stop_signal, config.reload_signal, value_of(config, "kill_mode")) == (2, 1, "mixed")
    assert (config.resources.open_files_max, config.resources.memory_bytes) == (65536, 2 * 1024**3)
    assert outcome.dropped == [
        (20, "[Service] Restart"), (12, "[Service] ExecStartPre"), (18, "[Service] OOMScoreAdjust"),
        (23, "[Service] ProtectSystem"),
    ]  # fmt: skip


def test_a_shop_under_docker_compose(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRON, "DB_PASSWORD", "p")
    outcome = bring("docker-compose.yml", COMPOSE)
    db, migrate, web = outcome.stack.daemons.values()
    assert db.command == ("postgres", "-D", "/var/lib/pg")
    assert db.env == {"POSTGRES_PASSWORD": "p"}
    assert db.health_check.exec == ("/bin/sh", "-c", "pg_isready -U $POSTGRES_USER || exit 1")
    assert (db.health_check.interval, db.health_check.timeout, db.health_check.retries) == (10.0, 5.0, 5)
    assert restart_of(db) == ("unless-stopped", None, 10.0)
    assert restart_of(migrate)[0] == "never"
    assert {name: one.value for name, one in migrate.after.items()} == {"db": "healthy"}
    assert web.command == ("gunicorn", "-b", ":9000", "shop.wsgi")
    assert {name: one.value for name, one in web.after.items()} == {"migrate": "completed"}
    assert (web.user, web.group, web.replicas) == ("1000", "1000", 3)
    assert (web.resources.cpu_quota_percent, web.resources.memory_bytes) == (50.0, 256 * 1024**2)
    assert restart_of(web) == ("on-failure", 5, 10.0)
    assert outcome.dropped == [
        (33, "volumes"), (3, "services.db.image"), (13, "services.db.volumes"), (15, "services.migrate.build"),
        (21, "services.web.build"), (23, "services.web.ports"),
    ]  # fmt: skip


def test_an_api_under_pm2(bring: Bring) -> None:
    outcome = bring("ecosystem.json", ECOSYSTEM)
    api, worker = outcome.stack.daemons.values()
    assert api.command == ("node", "--max-old-space-size=512", "dist/server.js")
    assert (str(api.working_dir), api.replicas) == ("/srv/api", 4)
    assert api.env == {"NODE_ENV": "production", "PORT": "3000"}
    assert restart_of(api) == ("always", 16, 1.0)
    assert (api.stop_signal, api.shutdown_timeout, api.restart_when.memory) == (2, 5.0, 600 * 1024**2)
    assert str(api.log.directory) == "/var/log/api"
    assert worker.command == ("python3", "./worker.py")
    assert [round(worker.restart.backoff.delay_for(n), 4) for n in (0, 1, 2, 50)] == [0.1, 0.15, 0.225, 15.0]
    assert outcome.dropped == [(7, "api.exec_mode"), (11, "api.env_staging"), (22, "worker.watch")]
    assert "is used with --env staging only" in outcome.said
