"""Where captured bytes come from, read in two steps: `peek` gives them, `consume` takes them away.

What is peeked and not consumed still belongs to the pipe. So a block is consumed only after it stands in the log file,
a line whose end has not come yet simply stays in the pipe, and a manager that is killed at any moment loses nothing:
the pipe outlives it. tee(2) makes that cheap: it gives a second pipe the same pages. Peek, write and consume reach the
speed of a plain read and write within the noise (1.5 to 1.7 GB/s both, Linux 6.18); splice(2) into the file was slower
(1.2 to 1.4 GB/s), and can be interrupted half-way, as can splice to /dev/null. A read(2) of what is there is not.

Anything but a pipe (a socket, a terminal) can't be peeked: it is read into memory, and only that is lost in a kill.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import stat
import termios
from abc import ABC, abstractmethod

__all__ = ["BLOCK_BYTES", "RAW_BLOCK_BYTES", "BufferedSource", "PipeSource", "Scratch", "Source", "open_source"]

# How much of one stream is moved in one turn; also what a neighbour waits for, well under a millisecond. A formatted
# block must stay below 128 KiB: from there malloc(3) maps new pages for each, which halves the throughput.
BLOCK_BYTES = 64 * 1024
RAW_BLOCK_BYTES = 256 * 1024  # what is not formatted is allocated once; 1 MiB is slower again (second-level cache)
# fs.pipe-max-size's default (pipe(7)): the most an ordinary user may ask for.
GROWN_PIPE_BYTES = 1024 * 1024
_SPLICE_F_NONBLOCK = 2  # <bits/fcntl-linux.h>

_OTHER_END_GONE = (errno.EIO, errno.ECONNRESET)  # of a terminal, of a socket

_libc = ctypes.CDLL(None, use_errno=True)
_tee = _libc.tee
_tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
_tee.restype = ctypes.c_ssize_t


class Scratch:
    """The second pipe of tee(2); one serves all sources of a thread, as it is empty between two calls."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.discarded = memoryview(bytearray(RAW_BLOCK_BYTES))  # into the same memory each time: half the time of new
        grow_pipe(self.write_fd)  # with fewer pages a peek just shows less

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read_fd)
        os.close(self.write_fd)


def grow_pipe(fd: int) -> int:
    """Enlarge a pipe as far as this user may; its capacity afterwards."""
    try:
        return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, GROWN_PIPE_BYTES)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EBUSY, errno.ENOMEM):
            raise
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)  # the user's share is used up: slower, not wrong


class Source(ABC):
    """A captured stream. Owns its descriptor."""

    def __init__(self, fd: int, block_bytes: int) -> None:
        self.fd = fd
        self.block_bytes = block_bytes  # the most that a peek shows
        self.identity = 0  # a pipe's inode number, by which a later manager knows it again; 0: can't be known again
        self.capacity_bytes = BLOCK_BYTES

    @abstractmethod
    def peek(self) -> bytes | None:
        """The next bytes, at most `block_bytes` and the same until consumed. b"" is nothing yet, None the end."""

    @abstractmethod
    def consume(self, count: int) -> None:
        """Take away the first `count` bytes of what was peeked."""

    @abstractmethod
    def waiting_bytes(self) -> int:
        """How much could be peeked or is behind it."""

    @abstractmethod
    def grow(self) -> None:
        """Make the pipe larger, where it is one."""

    def close(self) -> None:
        """Close our descriptor."""
        os.close(self.fd)


def _fionread(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


class PipeSource(Source):
    """A pipe, peeked with tee(2)."""

    def __init__(self, fd: int, block_bytes: int, scratch: Scratch) -> None:
        super().__init__(fd, block_bytes)
        self._scratch = scratch
        self.identity = os.fstat(fd).st_ino
        self.capacity_bytes = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)

    def peek(self) -> bytes | None:
        count = _tee(self.fd, self._scratch.write_fd, self.block_bytes, _SPLICE_F_NONBLOCK)
        if count > 0:
            return os.read(self._scratch.read_fd, count)
        if count == 0:
            return None
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            return b""
        raise OSError(number, f"cannot look into pipe {self.fd}: {os.strerror(number)}")

    def consume(self, count: int) -> None:
        while count > 0:  # once: the bytes are there, and nobody else reads
            count -= os.readv(self.fd, [self._scratch.discarded[:count]])

    def waiting_bytes(self) -> int:
        return _fionread(self.fd)

    def grow(self) -> None:
        self.capacity_bytes = grow_pipe(self.fd)


class BufferedSource(Source):
    """Anything else that can be read without blocking."""

    def __init__(self, fd: int, block_bytes: int) -> None:
        super().__init__(fd, block_bytes)
        self._held = bytearray()

    def peek(self) -> bytes | None:
        room = self.block_bytes - len(self._held)
        if room > 0:
            try:
                read = os.read(self.fd, room)
            except BlockingIOError:
                return bytes(self._held)
            except OSError as error:
                if error.errno not in _OTHER_END_GONE:
                    raise
                read = b""
            if not read and not self._held:
                return None
            self._held += read
        return bytes(self._held)

    def consume(self, count: int) -> None:
        del self._held[:count]

    def waiting_bytes(self) -> int:
        return len(self._held) + _fionread(self.fd)

    def grow(self) -> None:
        return  # a socket's or a terminal's buffer is its own affair


def open_source(fd: int, scratch: Scratch, block_bytes: int = BLOCK_BYTES) -> Source:
    """Take over `fd` and make it non-blocking."""
    os.set_blocking(fd, False)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return PipeSource(fd, block_bytes, scratch)
    return BufferedSource(fd, block_bytes)
