"""Import from other tools' files: Procfile, supervisord.conf, pm2, docker compose, systemd units. See convert.py."""
