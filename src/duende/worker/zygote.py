"""The warm process that instances of Python classes are forked from: everything imported, nothing running.

`python -m duende.worker.zygote`, started by the keeper with a stream socket in `DUENDE_ZYGOTE_FD`. It reads requests
`{"op": "fork", "n", "spec"}` with the descriptors [stdout, stderr, status, control?] and forks twice: the child in
between ends at once, so that the grandchild falls to the keeper, the nearest subreaper (prctl(2)). The grandchild
writes `{"pid": N}` to the status pipe, prepares itself, and closes the pipe when signals reach it as a daemon. The
zygote answers `{"n", "pid"}` after the child in between was reaped, or `{"n", "error"}`. It has one thread, so that a
fork is safe, and ends when the keeper's socket closes.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
import types
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from duende.keeper.child import ChildError, fork, prepare
from duende.keeper.wire import Channel, WireError
from duende.worker.control import CONTROL_VARIABLE
from duende.worker.host import EXIT_FAILED
from duende.worker.process import forget_start_folder, live_and_leave, set_process_name
from duende.worker.rehearsal import rehearse
from duende.worker.spec import SPEC_VARIABLE

__all__ = ["ZYGOTE_VARIABLE", "main"]

ZYGOTE_VARIABLE = "DUENDE_ZYGOTE_FD"

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_LIBC = ctypes.CDLL(None)  # now: after a change of user the library may be out of reach
_EXIT_SETUP = 127  # as the keeper's own children, when they could not become the daemon
_PID_BYTES = 32
# What only some daemons use, and imports lazily elsewhere: here it costs the others 0.15 MB, shared with the rest, and
# spares those the 80 ms in which their event loop would stand still at the first child.
_FOR_SOME = ("duende.worker.children", "duende.worker.convert", "duende.worker.kept", "duende.worker.reload")


def main() -> None:
    """Serve until the keeper has gone."""
    sock = socket.socket(fileno=int(os.environ.pop(ZYGOTE_VARIABLE)))
    sock.set_inheritable(False)
    set_process_name("duende-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the manager's terminal is not for us
    forget_start_folder()
    for name in _FOR_SOME:
        importlib.import_module(name)
    rehearse()
    _freeze()
    _serve(Channel(sock))


def _freeze() -> None:
    """Put everything that lives now out of the collector's sight, so that instances do not copy its pages."""
    gc.collect()
    gc.freeze()


def _serve(channel: Channel) -> None:
    poll = select.poll()
    while True:
        poll.register(channel, select.POLLIN | (select.POLLOUT if channel.wants_write else 0))
        poll.poll()
        try:
            channel.flush()
            for message, fds in channel.receive():
                try:
                    channel.send(_answer(message, fds))
                finally:
                    for fd in fds:
                        os.close(fd)
        except (EOFError, OSError):
            return  # the keeper is gone: its children live on, and a new keeper starts a new zygote
        except WireError as error:
            print(f"duende zygote: {error}", file=sys.stderr)
            return


def _answer(message: Mapping[str, Any], fds: list[int]) -> dict[str, Any]:
    n = message.get("n")
    if message.get("op") != "fork":
        return {"n": n, "error": {"stage": f"op {message.get('op')}", "errno": errno.ENOSYS, "path": ""}}
    if len(fds) not in (3, 4) or not isinstance(message.get("spec"), dict):
        return {"n": n, "error": {"stage": "fork request", "errno": errno.EPROTO, "path": ""}}
    try:
        return {"n": n, "pid": _fork_twice(message["spec"], fds)}
    except OSError as error:
        return {"n": n, "error": {"stage": "fork", "errno": error.errno, "path": ""}}


def _fork_twice(spec: dict[str, Any], fds: list[int]) -> int:
    """Return the grandchild's process id; OSError when one of the forks failed."""
    word_r, word_w = os.pipe2(os.O_CLOEXEC)
    try:
        between = fork(spec)  # already in the instance's cgroup, and with it the grandchild
        if between == 0:
            _be_between(spec, fds, word_w)
        os.close(word_w)
        word_w = -1
        word = os.read(word_r, _PID_BYTES)
        os.waitpid(between, 0)
    finally:
        os.close(word_r)
        if word_w >= 0:
            os.close(word_w)
    if not word:
        raise OSError(errno.EAGAIN, "the child in between was killed")
    number = int(word)
    if number < 0:
        raise OSError(-number, os.strerror(-number))
    return number


def _be_between(spec: dict[str, Any], fds: list[int], word_w: int) -> NoReturn:
    """In the child in between: fork the grandchild, say its process id (or minus the errno), end."""
    try:
        pid = os.fork()
        if pid == 0:
            _become(spec, fds)
        os.write(word_w, str(pid).encode())
    except OSError as error:
        os.write(word_w, str(-(error.errno or errno.EAGAIN)).encode())
    finally:
        os._exit(0)


def _become(spec: dict[str, Any], fds: list[int]) -> NoReturn:
    """In the grandchild: become the instance, or say on the status pipe why not. Nothing may escape from here."""
    status = fds[2]
    try:
        os.write(status, json.dumps({"pid": os.getpid()}).encode() + b"\n")
        env = prepare(spec, stdout=fds[0], stderr=fds[1], control=fds[3] if len(fds) > 3 else None)
        if SPEC_VARIABLE not in env:
            raise ChildError("specification", errno.EINVAL, SPEC_VARIABLE)
        if spec.get("uid") is not None or spec.get("gid") is not None:
            _become_dumpable()
        _take_over(env)
        _close_all_but({status} | {int(env[name]) for name in (CONTROL_VARIABLE, SPEC_VARIABLE) if name in env})
    except ChildError as error:
        _say_and_exit(status, error.to_json())
    except BaseException as error:  # noqa: BLE001  (nothing of a child's may get into the zygote's loop)
        _say_and_exit(status, {"stage": f"setup: {error!r}", "errno": errno.EINVAL, "path": ""})
    try:
        live_and_leave(lambda: os.close(status))
    except BaseException:  # noqa: BLE001  (a bug of ours: it belongs into the log)
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(EXIT_FAILED)


def _say_and_exit(status: int, word: dict[str, Any]) -> NoReturn:
    try:
        os.write(status, json.dumps(word).encode())
    finally:
        os._exit(_EXIT_SETUP)


def _take_over(env: dict[str, str]) -> None:
    """Do to the interpreter what an exec would have done: environment, search path, `__main__`, ignored signals."""
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    folders = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in folders if folder and folder not in sys.path]
    sys.modules["__main__"] = types.ModuleType("__main__")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as Python does at its start: EPIPE and EFBIG are exceptions
        signal.signal(number, signal.SIG_IGN)


def _become_dumpable() -> None:
    """Undo what a change of user does to a process that does not exec: its /proc/self would belong to root.

    There is nothing in the zygote's memory that the daemon's user may not see (prctl(2), PR_SET_DUMPABLE).
    """
    _LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _close_all_but(keep: set[int]) -> None:
    """Close the zygote's own descriptors and the originals of what `prepare` has put in place."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd not in keep:
            with suppress(OSError):  # the one that listed the folder is closed already
                os.close(fd)


if __name__ == "__main__":
    main()
