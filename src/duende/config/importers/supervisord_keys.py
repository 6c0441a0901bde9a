"""What each key of a [program:x] becomes, and the sections and keys that become nothing. See supervisord.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from duende.config.importers.draft import (
    MARKED,
    ONE_WORD,
    Draft,
    Findings,
    Origin,
    Place,
    split_marked,
)
from duende.config.units import format_duration, format_size
from duende.model.signals import Signal

__all__ = ["KEYS", "NOT_NEEDED", "OTHER_SECTIONS", "SUPERVISORD_KEYS", "Program"]

_TRUE, _FALSE = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
_UNITS = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}  # supervisord's are binary
_EXIT_CODES = [0]
_STARTRETRIES, _STARTSECS = 3, 1
_FIRST_DELAY = "1s"  # supervisord waits 1, 2, 3 … seconds; ours are 1, 2, 4 …

NOT_NEEDED = {
    "unix_http_server": "duende's API is always there, on a Unix socket, for the same user",
    "supervisorctl": "the `duende` command is always there",
    "rpcinterface": "duende's API is always there",
    "ctlplugin": "the `duende` command is always there",
}
OTHER_SECTIONS = {
    "inet_http_server": ("duende listens on no TCP port", "use the Unix socket, also through ssh"),
    "eventlistener": (
        "duende starts no listeners", "follow `duende events -f --json`, or run the listener as a daemon on the API"
    ),
    "fcgi-program": ("duende opens no sockets for FastCGI", "let the program listen itself, as php-fpm does"),
}  # fmt: skip
# Key of [supervisord] -> what to do instead; empty where nothing is lost.
SUPERVISORD_KEYS = {
    "user": "start duende as that user, or set `user` for each daemon",
    "minfds": "set resources.open_files_max for each daemon",
    "minprocs": "set resources.pids_max for each daemon",
    "identifier": "", "logfile": "", "logfile_maxbytes": "", "logfile_backups": "", "loglevel": "", "pidfile": "",
    "nodaemon": "", "silent": "", "nocleanup": "", "childlogdir": "set log.directory for each daemon",
    "strip_ansi": "take the colours out where the log is read",
}  # fmt: skip


@dataclass(slots=True)
class Program:
    """One program while it is carried over."""

    draft: Draft
    values: Mapping[str, tuple[str, Origin]]
    shared: Mapping[str, tuple[str, Origin]]
    place: Place
    findings: Findings
    numbers: dict[str, tuple[int, Origin]] = field(default_factory=dict)
    autorestart: str = "unexpected"
    exit_codes: list[int] = field(default_factory=lambda: list(_EXIT_CODES))

    def drop(self, at: Origin, reason: str, hint: str = "") -> None:
        self.findings.drop(at, reason, hint)

    def number(self, key: str, default: int) -> tuple[int, Origin]:
        return self.numbers.get(key, (default, self.draft.at))

    def finish(self) -> None:
        """What several keys decide together: the restart policy, with supervisord's defaults."""
        where = self.values.get("autorestart", ("", self.draft.at))[1]
        policy = {"unexpected": "on-failure", "true": "always", "false": "never"}[self.autorestart]
        self.draft.put(where, policy, "restart", "policy")
        retries, retries_at = self.number("startretries", _STARTRETRIES)
        if policy == "never":
            if "startretries" in self.numbers:
                reason = "with autorestart=false supervisord still retries a program that ends within startsecs"
                self.drop(retries_at, f"{reason}; duende does not", 'write restart = { policy = "on-failure", … }')
            return
        self.draft.put(where, _FIRST_DELAY, "restart", "delay")
        self.draft.put(retries_at, retries, "restart", "max_retries")
        startsecs, startsecs_at = self.number("startsecs", _STARTSECS)
        self.draft.put(startsecs_at, format_duration(float(startsecs)), "restart", "reset_after")
        if policy == "on-failure" and self.exit_codes != _EXIT_CODES:
            self.draft.put(self.values["exitcodes"][1], self.exit_codes, "restart", "success_exit_codes")


def _command(program: Program, text: str, at: Origin) -> None:
    try:
        words = split_marked(text)
    except ValueError as error:
        program.drop(at, f"can't be split into words: {str(error).lower()}", "close the quote")
        return
    if MARKED.search(text):
        program.findings.note(at, ONE_WORD)
    if words:
        program.draft.put(at, words, "command")


def _flag(text: str) -> bool | None:
    return True if text.lower() in _TRUE else False if text.lower() in _FALSE else None


def _boolean(apply: Callable[[Program, bool, Origin], None]) -> Callable[[Program, str, Origin], None]:
    def carry(program: Program, text: str, at: Origin) -> None:
        value = _flag(text)
        if value is None:
            program.drop(at, f"{text[:40]!r} is neither true nor false")
        else:
            apply(program, value, at)

    return carry


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _number(key: str) -> Callable[[Program, str, Origin], None]:
    def carry(program: Program, text: str, at: Origin) -> None:
        value = _whole(text)
        if value is None:
            program.drop(at, f"{text[:40]!r} is not a whole number")
        else:
            program.numbers[key] = (value, at)

    return carry


def _autorestart(program: Program, text: str, at: Origin) -> None:
    word = text.lower()
    if word == "unexpected":
        program.autorestart = word
    elif (value := _flag(word)) is not None:
        program.autorestart = "true" if value else "false"
    else:
        program.drop(at, f"{text[:40]!r} is none of true, false, unexpected")


def _exit_codes(program: Program, text: str, at: Origin) -> None:
    codes = [_whole(part.strip()) for part in text.split(",")] if text.strip() else []
    if any(code is None or code > 255 for code in codes):
        program.drop(at, f"{text[:40]!r} is not a list of exit codes")
    else:
        program.exit_codes = sorted({code for code in codes if code is not None})


def _signal(program: Program, text: str, at: Origin) -> None:
    try:
        program.draft.put(at, Signal.parse(text.strip()).full_name, "stop_signal")
    except ValueError as error:
        program.drop(at, str(error), "SIGTERM is sent; let the program handle it")


def _stopwaitsecs(program: Program, text: str, at: Origin) -> None:
    value = _whole(text)
    if value is None:
        program.drop(at, f"{text[:40]!r} is not a whole number")
    else:
        program.draft.put(at, format_duration(float(value)), "shutdown_timeout")


def _user(program: Program, text: str, at: Origin) -> None:
    program.draft.put(at, text, "user")


def _umask(program: Program, text: str, at: Origin) -> None:
    program.draft.put(at, text, "umask")


def _directory(program: Program, text: str, at: Origin) -> None:
    program.draft.put(at, program.place.path(text), "working_dir")


def _autostart(program: Program, value: bool, at: Origin) -> None:
    program.draft.put(at, value, "autostart")


def _stopasgroup(program: Program, value: bool, at: Origin) -> None:
    if value:
        program.draft.put(at, "control-group", "kill_mode")


def _killasgroup(program: Program, value: bool, at: Origin) -> None:
    """`mixed`, duende's default, says just that."""


def _redirect_stderr(program: Program, value: bool, at: Origin) -> None:
    """duende keeps both in one file and tells them apart."""


def _logfile(stream: str) -> Callable[[Program, str, Origin], None]:
    def carry(program: Program, text: str, at: Origin) -> None:
        word = text.lower()
        redirected = _flag(program.values.get("redirect_stderr", ("false",))[0])
        if word == "auto" or (stream == "stderr" and redirected):
            return
        if word in ("none", "off", "/dev/null"):
            program.drop(
                at, "duende keeps what a program writes", f"redirect {stream} in the command: sh -c '… >/dev/null'"
            )
        elif word == "syslog":
            program.drop(at, "duende writes files, not to syslog", "pipe it: sh -c '… | logger -t NAME'")
        elif word.startswith("/dev/"):
            program.findings.note(at, "is where supervisord runs; under duende `up` without -d shows the output")
        else:
            folder = os.path.dirname(program.place.path(os.path.expanduser(text))) or "."
            before = program.draft.get("log", "directory")
            if before not in (None, folder):
                program.drop(
                    at, f"stdout and stderr go to one folder, {before}", "duende logs --stderr shows one of them"
                )
                return
            program.draft.put(at, folder, "log", "directory")
            program.findings.note(at, "the folder is kept, the files in it are named after the daemon")

    return carry


def _is_kept(program: Program, stream: str) -> bool:
    """Whether supervisord keeps this stream in a file, so that its limits are about one."""
    name = program.values.get(f"{stream}_logfile", ("auto",))[0].lower()
    redirected = stream == "stderr" and _flag(program.values.get("redirect_stderr", ("false",))[0])
    return not redirected and not name.startswith("/dev/") and name not in ("none", "off", "syslog")


def _log_size(stream: str) -> Callable[[Program, str, Origin], None]:
    def carry(program: Program, text: str, at: Origin) -> None:
        factor = _UNITS.get(text[-2:].lower(), 1)
        count = _whole(text[:-2] if factor > 1 else text)
        if count is None:
            program.drop(at, f"{text[:40]!r} is not a size")
        elif _is_kept(program, stream):
            _log(program, format_size(count * factor), at, "max_size")

    return carry


def _log_backups(stream: str) -> Callable[[Program, str, Origin], None]:
    def carry(program: Program, text: str, at: Origin) -> None:
        count = _whole(text)
        if count is None:
            program.drop(at, f"{text[:40]!r} is not a whole number")
        elif _is_kept(program, stream):
            _log(program, count, at, "keep")

    return carry


def _log(program: Program, value: object, at: Origin, key: str) -> None:
    """stdout's settings win; those of stderr count only where they are the same."""
    before = program.draft.get("log", key)
    if before is None:
        program.draft.put(at, value, "log", key)
    elif before != value:
        program.drop(at, f"stdout and stderr are kept in one file, with {key} = {before}")


def _lost(reason: str, hint: str = "") -> Callable[[Program, str, Origin], None]:
    def carry(program: Program, text: str, at: Origin) -> None:
        program.drop(at, reason, hint)

    return carry


def _lost_flag(reason: str, hint: str = "") -> Callable[[Program, str, Origin], None]:
    """A switch that is lost only when it is on."""
    return _boolean(lambda program, value, at: program.drop(at, reason, hint) if value else None)


def _elsewhere(program: Program, text: str, at: Origin) -> None:
    """Read by supervisord.py before anything is carried over."""


_CAPTURE = _lost("duende has no capture mode (process communication events)", "read the log: duende logs -f --json")
_EVENTS = _lost_flag("output is no event in duende", "read the log: duende logs -f --json")
_SYSLOG = _lost_flag("duende writes files, not to syslog", "pipe it: sh -c '… | logger -t NAME'")

# In supervisord's order, so that stdout's settings come before those of stderr.
KEYS: Mapping[str, Callable[[Program, str, Origin], None]] = {
    "command": _command,
    "process_name": _elsewhere,
    "numprocs": _elsewhere,
    "numprocs_start": _elsewhere,
    "priority": _lost("duende orders by need, not by number", "use `after`"),
    "autostart": _boolean(_autostart),
    "startsecs": _number("startsecs"),
    "startretries": _number("startretries"),
    "autorestart": _autorestart,
    "exitcodes": _exit_codes,
    "stopsignal": _signal,
    "stopwaitsecs": _stopwaitsecs,
    "stopasgroup": _boolean(_stopasgroup),
    "killasgroup": _boolean(_killasgroup),
    "user": _user,
    "redirect_stderr": _boolean(_redirect_stderr),
    "stdout_logfile": _logfile("stdout"),
    "stdout_logfile_maxbytes": _log_size("stdout"),
    "stdout_logfile_backups": _log_backups("stdout"),
    "stdout_capture_maxbytes": _CAPTURE,
    "stdout_events_enabled": _EVENTS,
    "stdout_syslog": _SYSLOG,
    "stderr_logfile": _logfile("stderr"),
    "stderr_logfile_maxbytes": _log_size("stderr"),
    "stderr_logfile_backups": _log_backups("stderr"),
    "stderr_capture_maxbytes": _CAPTURE,
    "stderr_events_enabled": _EVENTS,
    "stderr_syslog": _SYSLOG,
    "environment": _elsewhere,
    "directory": _directory,
    "umask": _umask,
    "serverurl": _lost("is for event listeners", "the API's socket is in $DUENDE_RUNTIME_DIR/STACK"),
}
