"""What a table of `duende.toml` is made of: its fields, its abbreviations, and what was meant by a wrong key.

The tables themselves are in schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from duende.config.kinds import MISSING, Kind, Reader, WrongType
from duende.config.locate import KeyPath

__all__ = ["Field", "Section", "near_hint", "nearest"]


@dataclass(frozen=True, slots=True)
class Field:
    """One key. `attribute` is the dotted place of its value in the configuration; empty: folded into others."""

    key: str
    kind: Kind
    about: str  # for the reference and for editors
    default: str = ""  # as one would write it in the file
    attribute: str | None = None  # None: the same as the key
    section: Section | None = None

    @property
    def target(self) -> str:
        """The attribute that the value goes to."""
        return self.key if self.attribute is None else self.attribute


@dataclass(frozen=True, slots=True)
class Section:
    """One TOML table. `words` maps abbreviations (`restart = "always"`) to the table they stand for."""

    name: str
    about: str
    fields: tuple[Field, ...]
    make: Callable[[dict[str, Any]], Any]
    result: type = dict
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    not_alone: Mapping[str, str] = field(default_factory=dict)  # words that need more: what, and how to write it
    text_key: str = ""  # the key that a plain string stands for
    needs: tuple[str, ...] = ()  # keys that may not be missing
    one_of: tuple[str, ...] = ()  # at most one of these may be set
    by_key: dict[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {entry.key: entry for entry in self.fields})

    def read_fields(self, reader: Reader, at: KeyPath, table: Mapping[str, Any]) -> dict[str, Any]:
        """The read values by key, without those that are unknown or wrong (each recorded)."""
        values = {}
        for key, value in table.items():
            entry = self.by_key.get(key)
            if entry is None:
                reader.fail((*at, key), "unknown key", self.hint_for(key))
            elif (read := reader.read(entry.kind, (*at, key), value)) is not MISSING:
                values[key] = read
        given = [key for key in self.one_of if values.get(key) not in (None, False)]
        if len(given) > 1:
            reason = f"only one of {', '.join(self.one_of)} can be set, found {' and '.join(given)}"
            reader.fail((*at, given[1]), reason)
        return values

    def hint_for(self, key: str) -> str:
        """What was probably meant by an unknown key."""
        return near_hint(key, list(self.by_key), self._synonyms)

    def meant_by(self, key: str) -> str:
        """The known key nearest to an unknown one; empty when none is near."""
        return nearest(key, list(self.by_key), self._synonyms)

    @property
    def _synonyms(self) -> Mapping[str, str]:
        return _OTHER_TOOLS if self.name == "daemon" else {}

    def _is_number(self, value: object) -> bool:
        """Whether it is a number that its `text_key` takes: a duration in seconds."""
        takes = float in self.by_key[self.text_key].kind.types
        return takes and isinstance(value, int | float) and not isinstance(value, bool)

    def kind(self) -> Kind:
        """The section as a kind of value."""

        def read(reader: Reader, at: KeyPath, value: object) -> Any:
            if isinstance(value, str) and self.words:
                if value not in self.words:
                    if value in self.not_alone:
                        raise ValueError(f'"{value}" can\'t stand alone: it {self.not_alone[value]}')
                    known = ", ".join(f'"{word}"' for word in self.words)
                    raise ValueError(f'"{value[:60]}" is not one of {known}')
                value = self.words[value]
            if self.text_key and (isinstance(value, str) or self._is_number(value)):
                text = reader.read(self.by_key[self.text_key].kind, at, value)
                return text if text is MISSING else self.make({self.text_key: text})
            if not isinstance(value, dict):
                raise WrongType
            failed_before = len(reader.problems)
            values = self.read_fields(reader, at, value)
            for key in self.needs:
                if key not in value:
                    reader.fail(at, f"needs `{key}`")
            return self.make(values) if len(reader.problems) == failed_before else MISSING

        expected = "a table" + (" or one of " + ", ".join(f'"{word}"' for word in self.words) if self.words else "")
        if self.text_key:
            expected = f"{self.by_key[self.text_key].kind.expected}, or a table"
        return Kind("table", expected, {"$ref": f"#/$defs/{self.name}"}, read, (self.result,))


# Names that people bring from systemd, supervisor, Docker Compose, pm2 and others.
_OTHER_TOOLS = {
    "cmd": "command", "exec": "command", "exec_start": "command", "execstart": "command", "script": "command",
    "class": "daemon", "environment": "env", "environment_file": "env_file", "env_files": "env_file",
    "directory": "working_dir", "cwd": "working_dir", "chdir": "working_dir", "working_directory": "working_dir",
    "depends_on": "after", "requires": "after", "wants": "after", "autorestart": "restart", "restart_policy": "restart",
    "stopsignal": "stop_signal", "stopwaitsecs": "shutdown_timeout", "stop_timeout": "shutdown_timeout",
    "stop_grace_period": "shutdown_timeout", "kill_timeout": "shutdown_timeout", "numprocs": "replicas",
    "instances": "replicas", "limits": "resources", "logging": "log", "healthcheck": "health_check",
    "readiness": "ready", "startsecs": "start_timeout", "uid": "user", "gid": "group", "pidfile": "pid_file",
    "priority": "nice", "enabled": "autostart", "health": "health_check", "depends": "after",
    "cron": "schedule", "crontab": "schedule", "cron_restart": "schedule", "on_calendar": "schedule",
    "timer": "schedule", "interval": "every",
}  # fmt: skip


def near_hint(word: str, known: list[str], synonyms: Mapping[str, str] | None = None) -> str:
    """`did you mean …?` for the nearest of `known`; empty when nothing is near."""
    near = nearest(word, known, synonyms)
    return f"did you mean `{near}`?" if near else ""


def nearest(word: str, known: list[str], synonyms: Mapping[str, str] | None = None) -> str:
    """The one of `known` that was probably meant; empty when nothing is near."""
    import difflib  # here: only wrong files pay for it

    plain = word.lower().replace("-", "_")[:80]
    if synonyms and plain in synonyms:
        return synonyms[plain]
    by_plain = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return by_plain[near[0]] if near else ""
