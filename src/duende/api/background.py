"""Starts a manager in the background. It imports nothing of what a manager needs: the one who starts it only waits."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duende
from duende.api.presence import hold_as_restarter
from duende.config.daemon import StackConfig
from duende.config.load import load_stack
from duende.config.paths import StackPaths, make_private, stack_paths
from duende.config.replicas import expand_replicas, replica_names
from duende.core.fleet import start_layers
from duende.errors import ConfigurationError, DuendeError, ManagerRunning, Problem

__all__ = ["HANDED_OVER", "READY", "load_chosen", "start_background"]

HANDED_OVER = 75  # as in keeper/restarter.py, which is run by path and costs an import of ctypes
READY = b"ready\n"


def start_background(
    path: str, stack: str, *, overrides: Mapping[str, Any], names: Sequence[str], restarter: bool = True,
    ending: bool = False,
) -> None:  # fmt: skip
    """Start a manager in a session of its own; returns when its API answers. DuendeError says why it did not.

    With `restarter` a small process brings the manager back when it dies (keeper/restarter.py); without, whoever else
    does that, or nobody. With `ending` it takes over what runs, starts nothing, stops all and ends.
    """
    load_chosen(path, stack, overrides, names)  # here as well: its errors belong on this terminal
    paths = stack_paths(stack)
    make_private(paths.runtime_dir)
    make_private(paths.state_dir)
    read_end, write_end = os.pipe()
    inherited = [write_end]
    root = os.path.dirname(os.path.dirname(duende.__file__))
    code = f"import sys; sys.path.insert(0, {root!r}); from duende.api.host import background_main; background_main()"
    task = {"path": os.path.abspath(path), "stack": stack, "overrides": dict(overrides), "names": list(names)}
    argv = [sys.executable, "-c", code, json.dumps({**task, "ending": ending})]
    if restarter:
        inherited.append(hold_as_restarter(paths))
        program = os.path.join(root, "duende", "keeper", "restarter.py")
        work = {"argv": argv, "ready_fd": write_end, "lock": paths.lock, "held_fd": inherited[-1]}
        argv = [sys.executable, "-I", "-S", program, json.dumps(work)]
    else:
        argv.append(str(write_end))
    process = _started(argv, paths, inherited)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read()
    if said != READY:
        process.wait()
        text = said.decode(errors="replace").strip()
        if process.returncode == HANDED_OVER:
            raise ManagerRunning(text)
        raise DuendeError(text or f"the manager ended at once; see {paths.state_dir}/manager.log")
    process.returncode = 0  # it outlives us on purpose: no ResourceWarning for that


def _started(argv: list[str], paths: StackPaths, inherited: list[int]) -> subprocess.Popen[bytes]:
    log = -1
    try:
        log = os.open(f"{paths.state_dir}/manager.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        return subprocess.Popen(
            argv, pass_fds=inherited, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    finally:
        for fd in (log, *inherited):
            if fd >= 0:
                os.close(fd)


def load_chosen(path: str, stack: str, overrides: Mapping[str, Any], names: Sequence[str]) -> StackConfig:
    """The stack of that file with its replicas; of `names`, only these and what they come after start with it."""
    loaded = load_stack(path, overrides=overrides)
    if loaded.name != stack:
        loaded = replace(loaded, name=stack)
    expanded = expand_replicas(loaded)
    return _only(expanded, loaded, names) if names else expanded


def _only(stack: StackConfig, declared: StackConfig, names: Sequence[str]) -> StackConfig:
    """Start these and what they come after; the others are there, but are not started."""
    chosen: set[str] = set()
    for name in names:
        hits = [replica for base in fnmatch.filter(declared.daemons, name)
                for replica in replica_names(base, declared.daemons[base].replicas)]  # fmt: skip
        hits += fnmatch.filter(stack.daemons, name)
        chosen.update(hits)
        if not hits:
            known = ", ".join(declared.daemons)
            raise ConfigurationError(
                [Problem(f"no daemon {name!r}", file=str(stack.path or ""), hint=f"there are {known}")]
            )
    after = {name: config.after for name, config in stack.daemons.items()}
    for layer in reversed(start_layers(after)):
        for name in layer:
            if name in chosen:
                chosen.update(after.get(name, ()))
    daemons = {
        name: config if name in chosen else replace(config, autostart=False) for name, config in stack.daemons.items()
    }
    return replace(stack, daemons=daemons)
