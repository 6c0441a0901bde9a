"""Which tool a file belongs to: by its name where that says it, else by what is in it."""

from __future__ import annotations

import os
import re

from duende.config.importers.draft import Origin, refuse

__all__ = ["kind_of_file"]

_OTHER_UNITS = (".socket", ".timer", ".target", ".mount", ".path", ".slice", ".automount", ".swap", ".scope")
_COMPOSE_NAME = re.compile(r"(docker-)?compose([.-].*)?\.ya?ml")
_PROCFILE_LINE = re.compile(r"[A-Za-z0-9_-]+:\s*\S")


def kind_of_file(path: str, text: str) -> str:
    """One of `procfile`, `supervisord`, `pm2`, `compose`, `systemd`; ConfigurationError when nothing fits."""
    at = Origin(path)
    name = os.path.basename(path)
    if re.search(r"\.[cm]?js$", name):
        raise refuse(
            at,
            "is a program, not a list of settings: duende does not run it",
            f"let node write JSON: node -p 'JSON.stringify(require(\"./{name}\"))' > ecosystem.json && "
            "duende import ecosystem.json; or take what runs: pm2 prettylist",
        )
    if name.endswith(_OTHER_UNITS):
        hint = "import the .service" + (", and write `schedule` or `every` into it" if name.endswith(".timer") else "")
        raise refuse(at, "is a systemd unit, but not a .service: duende runs programs", hint)
    if name.endswith(".service"):
        return "systemd"
    if _COMPOSE_NAME.fullmatch(name):
        return "compose"
    if name.startswith("Procfile"):
        return "procfile"
    if kind := _by_content(text):
        return kind
    raise refuse(
        at, "is of no kind that import knows", "say which it is: --from procfile|supervisord|pm2|compose|systemd"
    )


def _by_content(text: str) -> str:
    if re.search(r"^\s*\[(program:|group:|supervisord\]|include\])", text, re.MULTILINE):
        return "supervisord"
    if re.search(r"^\[Service\]", text, re.MULTILINE):
        return "systemd"
    if text.lstrip()[:1] in ("{", "["):
        return "pm2"
    if re.search(r"^services:\s*(#.*)?$", text, re.MULTILINE):
        return "compose"
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    return "procfile" if lines and all(_PROCFILE_LINE.match(line) for line in lines) else ""
