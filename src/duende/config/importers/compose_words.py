"""docker compose's small languages: `${VAR}` and its kin, sizes, durations, and exact lists of what is left behind."""

from __future__ import annotations

import re
from collections.abc import Mapping

from duende.config.importers.draft import MARKED, variable

__all__ = ["DEPLOY_LOST", "SERVICE_LOST", "TOP_LOST", "duration_s", "interpolated", "size_bytes"]

# compose-go, template/template.go: `$$`, `$NAME`, `${NAME}`, and `${NAME` with an operator.
_DOLLAR = re.compile(r"\$(?:(?P<escaped>\$)|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)|(?P<wrong>))", re.ASCII)
_OPERATORS = (":-", "-", ":?", "?", ":+", "+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|us|µs|ns|s)")
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

_IMAGE = "install the program on this machine; an ENTRYPOINT of the image belongs in front of `command`"
_NETWORK = "the programs share this machine's network: write 127.0.0.1 and the port for a service's name"
_ISOLATION = "a duende daemon is a process of this machine, not a container"
SERVICE_LOST: Mapping[str, tuple[str, str]] = {
    "image": ("duende runs programs of this machine, not images", _IMAGE),
    "build": ("duende builds nothing", _IMAGE),
    "volumes": (_ISOLATION, "let the program use the host's path, or make a link"),
    "volumes_from": (_ISOLATION, "let the program use the host's path"),
    "tmpfs": (_ISOLATION, "use a folder in /run or /tmp"),
    "networks": (_ISOLATION, _NETWORK),
    "network_mode": (_ISOLATION, _NETWORK),
    "ports": (_ISOLATION, "the program listens on this machine itself: tell it the published port"),
    "expose": (_ISOLATION, _NETWORK),
    "links": (_ISOLATION, _NETWORK),
    "extra_hosts": (_ISOLATION, "write them into /etc/hosts"),
    "hostname": (_ISOLATION, ""),
    "dns": (_ISOLATION, "write them into /etc/resolv.conf"),
    "container_name": ("a daemon has the service's name", "rename the table"),
    "secrets": ("duende brings no secrets to /run/secrets", "name the file itself, or use env_file"),
    "configs": ("duende brings no files to their place", "name the file itself"),
    "labels": ("a daemon has no labels", "write them into `description`"),
    "extends": ("is not resolved", "import what compose makes of it: docker compose config > all.yaml"),
    "tty": ("a daemon has no terminal", ""),
    "stdin_open": ("a daemon reads from /dev/null", ""),
    "privileged": (_ISOLATION, "set `user`"),
    "cap_add": ("duende sets no capabilities", "give them to the program: setcap(8)"),
    "cap_drop": ("duende sets no capabilities", "set `user`"),
    "security_opt": (_ISOLATION, ""),
    "read_only": (_ISOLATION, ""),
    "devices": (_ISOLATION, "put the user into the device's group"),
    "sysctls": (_ISOLATION, "write them into /etc/sysctl.d"),
    "shm_size": (_ISOLATION, ""),
    "init": ("duende ends what a daemon leaves behind by itself", ""),
    "profiles": ("duende has no profiles", "such a service is not started with the stack: duende start NAME"),
    "platform": ("duende runs programs of this machine", ""),
    "pull_policy": ("duende pulls nothing", ""),
    "post_start": ("duende runs no hooks", "put it into the command: sh -c '…'"),
    "pre_stop": ("duende runs no hooks", "let the program handle the stop signal"),
    "develop": ("duende does not watch files", ""),
    "mem_reservation": ("duende limits, it does not reserve", ""),
    "cpuset": ("duende binds to no processors", "put taskset(1) in front of the command"),
    "oom_score_adj": ("duende does not set it", "put choom(1) in front of the command"),
    "group_add": ("a daemon has the groups of its user", "add the user to the group"),
}
DEPLOY_LOST: Mapping[str, tuple[str, str]] = {
    "mode": ("duende's stacks are on one machine", "set `replicas`"),
    "placement": ("duende's stacks are on one machine", ""),
    "update_config": ("duende does not update in steps", "duende restart NAME.1, then NAME.2 …"),
    "rollback_config": ("duende does not roll back", ""),
    "endpoint_mode": (_ISOLATION, ""),
    "labels": SERVICE_LOST["labels"],
}
TOP_LOST: Mapping[str, tuple[str, str]] = {
    "volumes": (_ISOLATION, "let the programs use the host's paths"),
    "networks": (_ISOLATION, _NETWORK),
    "secrets": SERVICE_LOST["secrets"],
    "configs": SERVICE_LOST["configs"],
    "include": ("is not resolved", "import what compose makes of it: docker compose config > all.yaml"),
}


def interpolated(text: str, known: Mapping[str, str]) -> str:
    """`text` with its variables as duende's; `known` is the `.env`, whose values become defaults. ValueError."""
    if "$" not in text:
        return text
    parts, position = [], 0
    while match := _DOLLAR.search(text, position):
        parts.append(text[position : match.start()])
        position = match.end()
        if match["escaped"]:
            parts.append("$")
        elif match["name"]:
            parts.append(_variable(match["name"], "", "", known))
        elif match["braced"]:
            part, position = _braced(text, match["braced"], position, known)
            parts.append(part)
        else:
            raise ValueError("has a `$` that begins no variable; compose wants $$ for a plain $")
    return "".join([*parts, text[position:]])


def _braced(text: str, name: str, position: int, known: Mapping[str, str]) -> tuple[str, int]:
    """The rest of `${NAME…}` from behind the name, and the place behind the closing brace."""
    depth, end = 1, position
    while end < len(text) and depth:
        depth += 1 if text.startswith("${", end) else -1 if text[end] == "}" else 0
        end += 1
    if depth:
        raise ValueError("has a `${` that is never closed")
    rest = text[position : end - 1]
    if not rest:
        return _variable(name, "", "", known), end
    operator = next((one for one in _OPERATORS if rest.startswith(one)), "")
    if not operator:
        raise ValueError(f"has ${{{name}{rest[:20]}}}, which is no variable")
    return _variable(name, operator, rest[len(operator) :], known), end


def _variable(name: str, operator: str, word: str, known: Mapping[str, str]) -> str:
    """One variable. An unset one is empty in compose; `-` and `?` without colon leave a set but empty one alone."""
    if operator in (":+", "+"):
        raise ValueError(f"has ${{{name}{operator}…}}, for which duende has no form")
    if operator in (":?", "?") and name not in known:
        return variable(f"{name}:?{_inner(word)}")
    default = known.get(name) or (interpolated(word, known) if operator in (":-", "-") else "")
    return variable(f"{name}:-{_inner(default)}")


def _inner(text: str) -> str:
    """`text` inside of `${…}`: marked parts as they are, a plain `$` doubled; a `}` can't be written there."""
    parts = MARKED.split(text)
    if any("}" in part for part in parts[::2]):
        raise ValueError("has a default with `}` in it, which duende can't write")
    parts[::2] = [part.replace("$", "$$") for part in parts[::2]]
    return "".join(parts)


def size_bytes(value: object) -> int:
    """compose's `byte value`: `512m`, `1gb`, all in 1024s; ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{str(value)[:40]!r} is not a size")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower().replace("b", "") or " "))


def duration_s(value: object) -> float:
    """compose's durations, as Go writes them: `1m30s`; ValueError."""
    text = str(value).strip()
    total_s, position = 0.0, 0
    while match := _DURATION.match(text, position):
        total_s += float(match[1]) * _DURATION_UNITS[match[2]]
        position = match.end()
    if position != len(text) or not text:
        if text == "0":
            return 0.0
        raise ValueError(f"{text[:40]!r} is not a duration")
    return round(total_s, 9)
