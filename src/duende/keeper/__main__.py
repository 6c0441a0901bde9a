"""The keeper's loop: fork, watch, hold, tell. Run by path, never imported.

`python -I -S .../keeper/__main__.py SOCKET_FD NOTIFY_FD` with a listening Unix socket, and the datagram socket of
sd_notify. The rules:

- The keeper is the parent of every instance, holds the read end of its pipes and its exit status. An exited instance
  stays a zombie, its process id not free for reuse, until the manager has said `release`.
- It is a child subreaper (prctl(2)): what an instance leaves behind falls to the keeper and is reaped at once.
- It decides nothing. One manager at a time; a newer connection replaces the older. Without one it goes on holding.
- Everything is imported before the first fork: an upgrade may replace the files under a running keeper.
- A daemon's output is a pipe whose write end was opened for reading too, so that the daemon never gets SIGPIPE, not
  even when keeper and manager die at once (opening /proc/self/fd/N of a pipe with O_RDWR: pipe(7), fifo(7), Linux).

Requests: hello, spawn, release, zygote, quit. Events: instance, exit, stopped, continued, notify,
zygote-lost. `n` pairs a
reply with its request. A peer that talks rubbish loses its connection, nothing else.
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import child  # type: ignore[import-not-found]
import wire  # type: ignore[import-not-found]
from instance import Instance, become, open_pipes, start_ticks  # type: ignore[import-not-found]
from notices import Notices  # type: ignore[import-not-found]
from reaper import Reaper  # type: ignore[import-not-found]

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PR_SET_NAME = 15
_STATUS_MAX_BYTES = 16384  # a PATH_MAX path, JSON-escaped, fits


class Keeper:
    """All state of the process. Handlers are registered by descriptor."""

    def __init__(self, listener: socket.socket, notify: socket.socket) -> None:
        self.listener = listener
        self.notify = notify
        self.poll = select.epoll()
        self.handlers: dict[int, Any] = {}
        self.instances: dict[str, Instance] = {}
        self.by_pid: dict[int, Instance] = {}
        self.manager: Any = None
        self.zygote: Any = None
        self.zygote_pid = 0
        self.zygote_waiting: dict[int, Instance] = {}
        self.zygote_n = 0
        self.reaper = Reaper(self.by_pid.__contains__, lambda: bool(self.zygote_waiting), self.on_stop, self.on_reaped)
        self.notices = Notices(
            notify, self.by_pid, self.instances, lambda: bool(self.zygote_waiting), self.on_notice
        )  # fmt: skip
        self.untold: dict[str, Instance] = {}  # they said something while the manager took nothing
        self.quitting = False
        self.wants_end: list[tuple[Any, Any]] = []  # (n, channel) of a manager that waits until nothing is held
        self.is_full = False  # no descriptor was free for a connection: it waits until one is
        # Daemons get the limit we were started with; we ourselves need up to four descriptors for each of them.
        self.nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile[1], self.nofile[1]))

    def run(self) -> None:
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self.watch(wake_r, lambda _: self.on_wake(wake_r))
        self.listener.setblocking(False)
        self.watch(self.listener.fileno(), self.on_connect)
        self.watch(self.notify.fileno(), lambda _: self.notices.on_readable())
        while not self.quitting:
            for fd, event in self.poll.poll(self.reaper.timeout_s()):
                handler = self.handlers.get(fd)
                if handler is not None:  # one before it in this batch may have closed it
                    handler(event)
            self.reaper.look()

    def watch(self, fd: int, handler: Any) -> None:
        self.poll.register(fd, select.EPOLLIN)
        self.handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    # --- the manager's connection

    def on_connect(self, _: int) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self.unwatch(self.listener.fileno())  # it stays readable, and would be asked for without a pause
                self.is_full = True
            return
        uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()):
            sock.close()
            return
        if self.manager is not None:
            self.drop(self.manager)
        self.manager = wire.Channel(sock)
        channel = self.manager
        self.watch(sock.fileno(), lambda event: self.on_channel(channel, event, self.on_request))

    def on_channel(self, channel: Any, event: int, handle: Any) -> None:
        try:
            if event & select.EPOLLOUT:
                channel.flush()
                self.tell_untold()
            if event & ~select.EPOLLOUT:
                for message, fds in channel.receive():
                    for fd in fds:
                        os.close(fd)  # nobody sends us any
                    handle(channel, message)
            if channel.fileno() < 0:
                return  # the peer was found gone while it was answered
            self.poll.modify(channel.fileno(), select.EPOLLIN | (select.EPOLLOUT if channel.wants_write else 0))
        except (EOFError, OSError, wire.WireError):
            self.drop(channel)

    def drop(self, channel: Any) -> None:
        if channel.fileno() >= 0:
            self.unwatch(channel.fileno())
        channel.close()
        if channel is self.manager:
            self.manager = None
            self.wants_end = []
        self.listen_again()
        if channel is self.zygote:
            self.zygote = None
            self.tell(None, {"ev": "zygote-lost"})  # what it was forking speaks for itself on its status pipe

    def tell(self, channel: Any, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send to `channel` (the present manager if None); `fds` are duplicated, ours stay ours."""
        channel = channel or self.manager
        if channel is None or channel.fileno() < 0:
            return
        copies: list[int] = []
        try:
            for fd in fds:
                copies.append(os.dup(fd))
            channel.send(message, copies)
            copies = []
            if channel.wants_write:
                self.poll.modify(channel.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except (OSError, wire.WireError):
            # The connection is of no use any more; the manager learns everything again by its next hello.
            for fd in copies if len(copies) < len(fds) else ():  # not all could be made: `send` has not got them
                os.close(fd)
            self.drop(channel)

    def on_request(self, channel: Any, message: dict[str, Any]) -> None:
        wire.check_request(message)
        match message.get("op"):
            case "hello":
                self.hello(channel, message)
            case "spawn":
                self.spawn(channel, message)
            case "release":
                self.release(message)
            case "zygote":
                self.start_zygote(message)
            case "quit":
                self.wants_end.append((message.get("n"), channel))
                self.end_if_empty(refuse=not message.get("wait"))
            case other:
                self.tell(
                    channel,
                    {"n": message.get("n"), "error": {"stage": f"op {other}", "errno": errno.ENOSYS, "path": ""}},
                )

    def hello(self, channel: Any, message: dict[str, Any]) -> None:
        """How a new manager learns what runs. What is not executed yet is told of when it is."""
        known = [instance for instance in self.instances.values() if instance.executed]
        reply = {"n": message.get("n"), "v": wire.PROTOCOL_VERSION, "pid": os.getpid(), "count": len(known)}
        self.untold.clear()
        self.tell(channel, reply)
        have = frozenset(message.get("have") or ())  # no need to find room for these descriptors a second time
        for one in known:
            self.tell(channel, {"ev": "instance", **one.describe()}, () if one.key in have else tuple(one.fds))

    # --- instances

    def spawn(self, channel: Any, message: dict[str, Any]) -> None:
        key, spec, n = message["id"], message["spec"], message.get("n")
        present = self.instances.get(key)
        if present is not None:
            if not present.executed:
                present.requests.append((n, channel))  # asked again for a spawn still under way
            else:
                self.tell(channel, {"n": n, "ok": True, **present.describe()}, tuple(present.fds))
            return
        try:
            ours, theirs, status_r, ready_r = open_pipes(bool(spec.get("control")), spec.get("ready_fd") is not None)
        except OSError as error:
            self.tell(channel, {"n": n, "error": {"stage": "pipe", "errno": error.errno, "path": ""}})
            return
        instance = Instance(key, message.get("note"), ours, spec)
        instance.requests = [(n, channel)]
        instance.status_fd = status_r
        self.instances[key] = instance
        self.watch(status_r, lambda _: self.on_status(instance))
        if ready_r >= 0:
            instance.ready_fd = ready_r
            self.watch(ready_r, lambda _: self.on_ready_fd(instance))
        spec["rlimits"] = {"NOFILE": self.nofile, **(spec.get("rlimits") or {})}
        if spec.get("zygote") and self.zygote is not None:
            self.spawn_by_zygote(instance, spec, theirs)
            return
        self.fork(instance, spec, theirs)
        for fd in theirs:
            os.close(fd)

    def fork(self, instance: Instance, spec: dict[str, Any], theirs: list[int]) -> None:
        try:
            pid = child.fork(spec)
        except OSError as error:
            self.spawn_failed(instance, {"stage": "fork", "errno": error.errno, "path": ""})
            return
        if pid == 0:
            become(spec, theirs)
        self.adopt(instance, pid)

    def spawn_by_zygote(self, instance: Instance, spec: dict[str, Any], theirs: list[int]) -> None:
        self.zygote_n += 1
        self.zygote_waiting[self.zygote_n] = instance
        try:
            self.zygote.send({"op": "fork", "n": self.zygote_n, "spec": spec}, theirs)
            if self.zygote.wants_write:
                self.poll.modify(self.zygote.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except (OSError, wire.WireError):
            self.drop(self.zygote)

    def on_zygote(self, _: Any, message: dict[str, Any]) -> None:
        """The zygote only ever says that it could not fork; a child that came to be says so on its status pipe."""
        if "error" in message:
            instance = self.zygote_waiting.pop(message.get("n", 0), None)
            if instance is not None:
                self.spawn_failed(instance, message["error"])

    def adopt(self, instance: Instance, pid: int) -> None:
        """`pid` is our child and not yet reaped, so the number is certainly it."""
        instance.pid = pid
        self.by_pid[pid] = instance
        try:
            instance.start_ticks = start_ticks(pid)
            instance.pidfd = os.pidfd_open(pid)
        except OSError as error:  # no free descriptor: without one we can't watch, so we can't have it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.by_pid.pop(pid)
            self.spawn_failed(instance, {"stage": "pidfd", "errno": error.errno, "path": ""})
            return
        self.watch(instance.pidfd, lambda _: self.on_exit(instance))
        self.notices.announced(instance)

    def on_status(self, instance: Instance) -> None:
        """The status pipe closes when the child has executed its program; before that it may say why it could not.

        Lines of JSON: {"pid": N} first from a child of the zygote (whose word we need not wait for, so that it may die
        at any moment), then {"stage", "errno", "path"} if it failed.
        """
        try:
            data = os.read(instance.status_fd, _STATUS_MAX_BYTES)
        except BlockingIOError:
            return
        instance.status_data += data
        if data and len(instance.status_data) < _STATUS_MAX_BYTES:
            return
        self.unwatch(instance.status_fd)
        os.close(instance.status_fd)
        instance.status_fd = -1
        error: dict[str, Any] | None = None
        try:
            for line in instance.status_data.splitlines():
                word = json.loads(line)
                if "pid" in word:
                    self.adopt(instance, word["pid"])
                else:
                    error = word
        except ValueError:
            error = {"stage": "setup", "errno": errno.EPROTO, "path": ""}
        if not instance.pid and error is None:
            error = {"stage": "zygote", "errno": errno.EAGAIN, "path": ""}  # it died before it forked
        self.settle(instance, error)
        self.zygote_waiting = {n: other for n, other in self.zygote_waiting.items() if other is not instance}
        self.reaper.reap()

    def on_ready_fd(self, instance: Instance) -> None:
        if not self.notices.on_newline(instance):
            self.unwatch(instance.ready_fd)
            os.close(instance.ready_fd)
            instance.ready_fd = -1

    def settle(self, instance: Instance, error: dict[str, Any] | None) -> None:
        """Answer the spawn, now that it is known how it went."""
        if instance.key not in self.instances:
            return
        if error is not None:
            self.spawn_failed(instance, error)  # its zombie becomes a stranger and is reaped as such
            return
        instance.executed = True
        requests, instance.requests = instance.requests, []
        for n, channel in requests:
            self.tell(channel, {"n": n, "ok": True, **instance.describe()}, tuple(instance.fds))
        if self.manager is not None and all(channel is not self.manager for _, channel in requests):
            # Whoever asked is gone, and when its successor said hello this one did not count yet.
            self.tell(None, {"ev": "instance", **instance.describe()}, tuple(instance.fds))
        if instance.exit is not None:
            self.tell(None, {"ev": "exit", "id": instance.key, **instance.exit})

    def spawn_failed(self, instance: Instance, error: dict[str, Any]) -> None:
        self.forget(instance)
        for n, channel in instance.requests:
            self.tell(channel, {"n": n, "error": error})

    def on_exit(self, instance: Instance) -> None:
        """It ended. Look, but leave the zombie: its process id is not free until the manager says `release`."""
        try:
            result = os.waitid(os.P_PIDFD, instance.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # a child of the zygote whose go-between is just ending: ours in a moment, and epoll asks again
        if result is None:
            return
        self.unwatch(instance.pidfd)
        instance.exit = {"code": result.si_code, "status": result.si_status}
        if instance.executed:
            self.tell(None, {"ev": "exit", "id": instance.key, **instance.exit})

    def release(self, message: dict[str, Any]) -> None:
        instance = self.instances.get(message["id"])
        if instance is None or instance.exit is None:
            return
        os.waitid(os.P_PIDFD, instance.pidfd, os.WEXITED)
        self.forget(instance)

    def forget(self, instance: Instance) -> None:
        self.instances.pop(instance.key, None)
        self.by_pid.pop(instance.pid, None)
        for fd in (instance.pidfd, instance.status_fd, instance.ready_fd):
            if fd >= 0:
                self.unwatch(fd)
                os.close(fd)
        for fd in instance.fds:
            os.close(fd)
        instance.fds = []
        instance.pidfd = instance.status_fd = instance.ready_fd = -1
        self.listen_again()
        self.end_if_empty()

    def listen_again(self) -> None:
        """A descriptor has become free."""
        if self.is_full:
            self.is_full = False
            self.watch(self.listener.fileno(), self.on_connect)

    def end_if_empty(self, *, refuse: bool = False) -> None:
        """Answer whoever wants us to end: yes when nothing is held; no only to one that does not want to wait."""
        if self.wants_end and (refuse or not self.instances):
            self.quitting = not self.instances
            asked, self.wants_end = self.wants_end, []
            for n, channel in asked:
                self.tell(channel, {"n": n, "ok": self.quitting, "instances": len(self.instances)})

    # --- signals to the keeper itself

    def on_wake(self, wake_r: int) -> None:
        numbers = os.read(wake_r, 4096)
        if signal.SIGTERM in numbers and not self.instances:
            self.quitting = True  # with instances it stays: they would lose their parent
        if signal.SIGCHLD in numbers:
            self.reaper.on_child()

    def on_stop(self, pid: int, name: str) -> None:
        instance = self.by_pid.get(pid)
        if instance is not None:
            self.tell(None, {"ev": name, "id": instance.key})

    def on_notice(self, instance: Instance | None, pid: int, said: dict[str, str]) -> None:
        """Tell the manager; while it takes nothing only remember that there is something to be told."""
        if self.manager is None or self.manager.wants_write:
            if instance is not None:
                self.untold[instance.key] = instance
        else:
            self.tell(None, {"ev": "notify", "id": instance.key if instance else None, "pid": pid, "notices": said})

    def tell_untold(self) -> None:
        while self.untold and self.manager is not None and not self.manager.wants_write:
            key, instance = self.untold.popitem()
            if key in self.instances:
                self.tell(None, {"ev": "notify", "id": key, "pid": instance.pid, "notices": instance.notices})

    def on_reaped(self, pid: int) -> None:
        if pid == self.zygote_pid:
            self.zygote_pid = 0
            if self.zygote is not None:
                self.drop(self.zygote)

    # --- the zygote: a warm process that forks Python-class instances for us

    def start_zygote(self, message: dict[str, Any]) -> None:
        if self.zygote is not None:
            self.tell(None, {"n": message.get("n"), "ok": True, "pid": self.zygote_pid})
            return
        near, far = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            near.close()
            far.close()
            self.tell(None, {"n": message.get("n"), "error": {"stage": "fork", "errno": error.errno, "path": ""}})
            return
        if pid == 0:
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_NOFILE, self.nofile)
                child.signal_defaults()
                os.set_inheritable(far.fileno(), True)
                child.execute(message["argv"], {**message["env"], "DUENDE_ZYGOTE_FD": str(far.fileno())})
            finally:
                os._exit(127)
        far.close()
        self.zygote_pid = pid
        self.zygote = wire.Channel(near)
        channel = self.zygote
        self.watch(near.fileno(), lambda event: self.on_channel(channel, event, self.on_zygote))
        self.tell(None, {"n": message.get("n"), "ok": True, "pid": pid})


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    libc.prctl(_PR_SET_NAME, b"duende-keeper", 0, 0, 0)
    listener = socket.socket(fileno=int(sys.argv[1]))
    notify = socket.socket(fileno=int(sys.argv[2]))
    for sock in (listener, notify):
        sock.set_inheritable(False)
    Keeper(listener, notify).run()


if __name__ == "__main__":
    main()
