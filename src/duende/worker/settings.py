"""Typed settings: a class that says `settings: Settings` gets its settings as that dataclass or TypedDict, checked.

Pure but for `give_settings`. What is checked: names (unknown and missing ones), and types as far down as they are
declared: `bool int float str`, `Path`, `timedelta` (seconds, or text such as "500ms"), dates and times, enums (by value
or name), `Literal`, `X | None` and other unions, `list tuple set frozenset dict` and their abstract kinds with items,
dataclasses, TypedDicts, `Any`. A ValueError of a `__post_init__` is a finding as well, so that ranges can be checked.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from duende.errors import ConfigurationError, Problem
from duende.worker.daemon import Daemon

if TYPE_CHECKING:
    from duende.config.daemon import DaemonConfig
    from duende.worker.convert import Finding
    from duende.worker.places import Places

__all__ = ["SettingsError", "declared_type", "give_settings", "typed_settings", "wants_reload"]


class SettingsError(ConfigurationError):
    """Settings that do not fit their type; `findings` tell where below the settings."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__([
            Problem(reason, key=".".join(("settings", *map(str, at))), hint=hint) for at, reason, hint in findings
        ])
        self.findings = findings


def wants_reload(daemon: Daemon) -> bool:
    """Whether the reload signal means new settings to it, and not only a signal."""
    return type(daemon).reload is not Daemon.reload or _declaration(type(daemon)) is not None


def give_settings(daemon: Daemon, config: DaemonConfig, places: Places) -> None:
    """Set `daemon.settings` where its class declares it; ConfigurationError with all that is wrong."""
    cls = type(daemon)
    if _declaration(cls) is not None:
        try:
            settings = typed_settings(cls, config.settings)
        except SettingsError as error:
            from duende.worker.reload import located  # here: it reads the file again, only to tell the lines

            raise located(error, config, places) from None
        object.__setattr__(daemon, "settings", settings)


def typed_settings(cls: type[Daemon], raw: Mapping[str, Any]) -> Any:
    """`raw` as the type that `cls` declares, or as it is; ConfigurationError, with keys below `settings`."""
    kind = declared_type(cls)
    if kind is None:
        return raw
    from duende.worker.convert import Converter  # here: `typing` and `dataclasses` at work, only where it is used

    converter = Converter()
    value = converter.convert(kind, dict(raw), ())
    if converter.findings:
        raise SettingsError(converter.findings)
    return value


def declared_type(cls: type[Daemon]) -> Any:
    """What `settings:` says in the class, None without; ConfigurationError when that can't be understood."""
    declaration = _declaration(cls)
    if declaration is None:
        return None
    owner, annotation = declaration
    where = f"{owner.__qualname__}.settings"
    if isinstance(annotation, str):
        names = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
        try:
            annotation = eval(annotation, dict(names), dict(vars(owner)))  # as `typing.get_type_hints` does
        except Exception as error:
            reason = f"the annotation {annotation!r} can't be understood: {type(error).__name__}: {error}"
            hint = "a type that is local to a function, or imported only for type checkers, can't be found"
            raise ConfigurationError([Problem(reason, key=where, hint=hint)]) from error
    from duende.worker.convert import is_table_type

    if not is_table_type(annotation):
        reason = f"{annotation!r} is neither a dataclass nor a TypedDict nor a mapping"
        raise ConfigurationError([Problem(reason, key=where, hint="was @dataclass forgotten?")])
    return annotation


def _declaration(cls: type[Daemon]) -> tuple[type, Any] | None:
    """The class that declares `settings` without giving it a value, and the annotation as it stands there."""
    for base in cls.__mro__:
        if base is Daemon or base is object or "settings" in vars(base):
            return None  # the class has it by itself: a default, a property
        annotations = inspect.get_annotations(base)
        if "settings" in annotations:
            return base, annotations["settings"]
    return None
