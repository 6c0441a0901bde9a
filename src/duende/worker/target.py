"""Finds the class that `pkg.mod:Class` or `/path/to/file.py:Class` names. Whatever is wrong is a ConfigurationError."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from types import ModuleType

from duende.errors import ConfigurationError, Problem
from duende.worker.daemon import Daemon

__all__ = ["load_daemon_class"]


def load_daemon_class(target: str) -> type[Daemon]:
    """Import the module or script and return the class; ConfigurationError says why it can't be a daemon."""
    place, _, path = target.rpartition(":")
    if not place or not path:
        raise _problem(target, "names no class", "write `pkg.mod:Class` or `path/to/file.py:Class`")
    if place == "__main__":
        raise _problem(target, "`__main__` is another module in every process", "write the script's path instead")
    try:
        module = _load_script(place) if place.endswith(".py") or os.sep in place else importlib.import_module(place)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:  # user code: whatever it raises means that it can't be loaded
        raise _problem(target, f"cannot import {place}: {type(error).__name__}: {error}") from error
    found: object = module
    for part in path.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise _problem(target, f"{place} has no class {path!r}", _near(module, path))
    if not (isinstance(found, type) and issubclass(found, Daemon)):
        raise _problem(target, f"{path} is {_kind(found)}, not a class derived from duende.Daemon")
    _check_constructible(target, found)
    return found


def _load_script(path: str) -> ModuleType:
    """Run the file as a module of its own name: `if __name__ == "__main__"` does not hold, and pickling works."""
    real = os.path.abspath(path)
    if not os.path.isfile(real):
        raise _problem(path, "there is no such file")
    stem = os.path.splitext(os.path.basename(real))[0]
    # A script called json.py must not replace the module that others mean by that name.
    name = stem if stem.isidentifier() and stem not in sys.modules else f"duende_script_{stem}"
    folder = os.path.dirname(real)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python itself does for a script: it may import its neighbours
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise _problem(path, "is not a Python file", "its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_constructible(target: str, cls: type[Daemon]) -> None:
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise _problem(target, f"{cls.__name__} does not define {', '.join(missing)}")
    if cls.__init__ is object.__init__:
        return  # the common case; a C function's signature has to be parsed, for about 1 MB of pages
    try:
        inspect.signature(cls.__init__).bind(object())
    except TypeError as error:
        reason = f"{cls.__name__}() is constructed without arguments, but {error}"
        raise _problem(target, reason, "put them into `settings`; they arrive in init(config)") from error


def _near(module: ModuleType, path: str) -> str:
    import difflib  # here: only for the message

    names = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Daemon)]
    near = difflib.get_close_matches(path, names, n=1) or sorted(set(names) - {"Daemon"})[:1]
    return f"did you mean {near[0]!r}?" if near else "it defines no class derived from duende.Daemon"


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _problem(target: str, reason: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError([Problem(reason, key=f"daemon {target!r}", hint=hint)])
