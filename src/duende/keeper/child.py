"""What a new process does to itself before it becomes the daemon: between fork and exec.

Used by the keeper, and by the zygote for Python classes. Plain system calls in one fixed order; the order matters and
each step says why. Everything comes ready-made in `spec` (the manager has looked up users and made cgroups), so that
there is nothing to decide here.

spec: argv, env, cwd, umask, nice, uid, gid, groups, rlimits {NAME: [soft, hard]}, cgroup_procs [path], oom_score_adj,
memfiles {ENV_NAME: text}; ready_fd is the keeper's (instance.py). A key that is missing or null means: leave as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import struct
from typing import Any, NoReturn

__all__ = ["ChildError", "execute", "fork", "place", "prepare", "signal_defaults"]

_PATH_SHOWN_CHARS = 2000
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as systemd's, when PATH is not set

_SYS_CLONE3 = 435  # asm-generic/unistd.h; the same on every architecture that Python 3.11 is built for
_CLONE_INTO_CGROUP = 0x2_0000_0000  # linux/sched.h, Linux 5.7
_CLONE_ARGS = struct.Struct("11Q")  # struct clone_args, linux/sched.h: CLONE_ARGS_SIZE_VER2
# PyDLL: the lock of the interpreter stays held, so that the child, which is this thread alone, has it too.
_SYSCALL = ctypes.PyDLL(None, use_errno=True).syscall
_SYSCALL.argtypes, _SYSCALL.restype = (ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t), ctypes.c_long

# The ones that a keeper or a zygote touches itself, and the ones that were not at their default when we came to be.
_NOT_DEFAULT = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM} | {
    number
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    if signal.getsignal(number) is not signal.SIG_DFL and signal.getsignal(number) is not None
}


class ChildError(Exception):
    """A step failed: `stage` names it, `errno` and `path` say why."""

    def __init__(self, stage: str, error_number: int, path: str = "") -> None:
        super().__init__(f"{stage}: {os.strerror(error_number)} {path}")
        self.stage = stage
        self.errno = error_number
        self.path = path

    def to_json(self) -> dict[str, Any]:
        """As it travels to the keeper over the status pipe, which takes 16 KiB (2,000 characters may need 12)."""
        return {"stage": self.stage, "errno": self.errno, "path": self.path[:_PATH_SHOWN_CHARS]}


def fork(spec: dict[str, Any]) -> int:
    """As os.fork, but the child begins in the cgroup that `spec` names first, where that is one of version 2.

    Moving a process takes the kernel a grace period of RCU (cgroup_procs_write, Linux 6.18: 5 to 12 ms); being born in
    the right place takes nothing. The C library does not know of such a child: it may execute a program or fork again,
    not live on. Wherever this does not work it is a plain fork, and `prepare` moves the child or says why it can't.
    """
    if paths := spec.get("cgroup_procs"):
        with contextlib.suppress(OSError):  # gone or not ours: `prepare` says so
            cgroup = os.open(os.path.dirname(paths[0]), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                args = _CLONE_ARGS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup)
                pid = int(_SYSCALL(_SYS_CLONE3, args, len(args)))
            finally:
                os.close(cgroup)
            if pid == 0:
                spec["cgroup_procs"] = paths[1:]  # in the child only
            if pid >= 0:
                return pid
            # ENOSYS, EPERM under an older seccomp filter, EBADF on version 1, EBUSY, EOPNOTSUPP, ...
    return os.fork()


def prepare(spec: dict[str, Any], *, stdout: int, stderr: int, control: int | None) -> dict[str, str]:
    """Turn this fresh child into what `spec` asks for; return the environment to execute with. ChildError if a step
    fails.
    """
    env: dict[str, str] = dict(spec.get("env") or {})
    os.setsid()  # own session and process group: the group id is the pid, and no terminal can hang it up
    # Into its cgroups before anything else costs memory, and before the privilege to do so is dropped.
    for path in spec.get("cgroup_procs") or ():
        _step("cgroup", path, _write, path, b"0")
    if spec.get("oom_score_adj") is not None:
        _step("oom_score_adj", "", _write, "/proc/self/oom_score_adj", str(spec["oom_score_adj"]).encode())
    for name, (soft, hard) in (spec.get("rlimits") or {}).items():
        _step("rlimit", name, _set_rlimit, name, soft, hard)
    if spec.get("nice") is not None:
        _step("nice", str(spec["nice"]), os.setpriority, os.PRIO_PROCESS, 0, spec["nice"])
    if spec.get("umask") is not None:
        os.umask(spec["umask"])
    for name, text in (spec.get("memfiles") or {}).items():
        env[name] = str(_memfile(name, text))
    if "WATCHDOG_USEC" in env:
        env["WATCHDOG_PID"] = str(os.getpid())  # sd_watchdog_enabled(3): its own number, known only here
    if control is not None:
        os.set_inheritable(control, True)
        env["DUENDE_CONTROL_FD"] = str(control)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    # Groups before the user: afterwards there is no right to change them.
    if spec.get("groups") is not None:
        _step("groups", "", os.setgroups, spec["groups"])
    if spec.get("gid") is not None:
        _step("group", str(spec["gid"]), os.setresgid, spec["gid"], spec["gid"], spec["gid"])
    if spec.get("uid") is not None:
        _step("user", str(spec["uid"]), os.setresuid, spec["uid"], spec["uid"], spec["uid"])
    # After the change of user, so that it is the daemon's own rights that decide.
    if spec.get("cwd"):
        _step("cwd", spec["cwd"], os.chdir, spec["cwd"])
    signal_defaults()
    return env


def signal_defaults() -> None:
    """Give back the default action to every signal that may be ignored or handled here, and unblock all.

    exec resets handlers but keeps what is ignored (execve(2)): Python ignores SIGPIPE and SIGXFSZ, and whoever started
    us (nohup, a shell's background job) may have ignored more, which was seen when this module was imported.
    """
    for number in _NOT_DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def place(fd: int, number: int) -> None:
    """Have the program inherit `fd` under the number that it was told."""
    if fd == number:
        os.set_inheritable(fd, True)
    else:
        _step("ready fd", str(number), os.dup2, fd, number)


def execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """execve `argv`, looking along the *daemon's* PATH as execvp(3) does. ChildError when nothing can be executed."""
    program = argv[0]
    if "/" in program:
        candidates = [program]
    else:
        folders = env.get("PATH", _DEFAULT_PATH).split(":")
        candidates = [os.path.join(folder or ".", program) for folder in folders]
    worst, worst_path = errno.ENOENT, program
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)
        except OSError as error:
            number = error.errno or errno.EINVAL
            if number not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES) or len(candidates) == 1:
                raise ChildError("exec", number, candidate) from error
            if number == errno.EACCES:  # found but not executable says more than not found elsewhere
                worst, worst_path = number, candidate
        except ValueError as error:  # a NUL byte in an argument or in the environment
            raise ChildError("exec", errno.EINVAL, candidate) from error
    raise ChildError("exec", worst, worst_path)


def _step(stage: str, path: str, call: Any, *args: Any) -> None:
    try:
        call(*args)
    except (OSError, ValueError) as error:
        raise ChildError(stage, getattr(error, "errno", None) or errno.EINVAL, path) from error


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _set_rlimit(name: str, soft: int, hard: int) -> None:
    which = getattr(resource, f"RLIMIT_{name}", None)
    if which is None:
        raise ValueError(f"no RLIMIT_{name} on this platform")
    try:
        resource.setrlimit(which, (soft, hard))
    except ValueError as error:  # Python's word for both of setrlimit(2)'s refusals
        raise OSError(errno.EPERM if soft <= hard else errno.EINVAL, "setrlimit") from error


def _memfile(name: str, text: str) -> int:
    """A descriptor with `text` to read from its start: settings do not fit the 128 KiB of one environment string."""
    fd = os.memfd_create(name, 0)
    data = memoryview(text.encode())
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
