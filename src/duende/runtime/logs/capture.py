"""One captured stream: what to do with what is in its pipe. The steps of a turn, without loop or thread.

A turn looks at up to a block, writes the whole lines in it, and takes away what it wrote. The beginning of a line
stays in the pipe until its end comes. It is written as a piece (`P`) when it can't stay: because it is so long that the
writer might wait for room, because it waited a second (a prompt, a progress bar), or because the manager goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from duende.config.daemon import LogFormat
from duende.runtime.logs.cursor import Cursor, fingerprint
from duende.runtime.logs.encode import Encoder, Part, format_time
from duende.runtime.logs.listen import LineListener
from duende.runtime.logs.logfile import LogFile
from duende.runtime.logs.source import Source

__all__ = ["Capture"]

# The longest beginning of a line that is left in the pipe. Also never more than half of the pipe: writes that do not
# fit behind each other in a page start a new one, so a pipe can be full from half its capacity on.
_LINE_MAX_BYTES = 64 * 1024


class Capture:
    """A stream of an instance on its way to its file."""

    def __init__(
        self,
        daemon: str,
        instance: int,
        stream: str,
        source: Source,
        cursor: Cursor,
        encoder: Encoder,
        file: LogFile,
        log_format: LogFormat,
        wall_ns: Callable[[], int] = time.time_ns,
        listener: LineListener | None = None,
    ) -> None:
        self.daemon = daemon
        self.instance = instance
        self.stream = stream
        self.source = source
        self.file = file
        self._cursor = cursor
        self._encoder = encoder
        self._is_raw = log_format is LogFormat.RAW
        self._wall_ns = wall_ns
        self._listener = listener
        self._recovered = False
        self.queued = False  # in the pump's ready queue
        self.grown = False
        self.hung_up = False  # no writer is left
        self.left_bytes: int | None = None  # once detached: how much is still taken
        self.flush = False  # write the beginning of a line as a piece now
        self.waits_for_newline = False
        self.look_delay_s = 0.0
        self.piece_at_s: float | None = None  # when the beginning of a line is written as a piece
        self.has_more = False  # a further turn would find something, though nothing new arrives
        self.ended = False
        self.watchers: list[Future[None]] = []

    def turn(self, now_s: float) -> int:
        """Move up to a block; how many bytes it was. OSError when the file can't be written: nothing was moved then."""
        self.file.prepare(now_s)
        if not self._recovered:
            self._recover()
        self.waits_for_newline = self.has_more = False
        block = self.source.peek() if self.left_bytes is None or self.left_bytes > 0 else None
        if block is None:
            self._end()
            return 0
        waiting = self.source.waiting_bytes()
        is_last = (self.hung_up and waiting == len(block)) or (
            self.left_bytes is not None and self.left_bytes <= len(block)
        )
        count = self._write(block, waiting, is_last=is_last)
        if self.left_bytes is not None:
            # A detached stream goes on only while there is progress.
            self.left_bytes = self.left_bytes - count if count else 0
        # A look that finds the pipe empty is the only safe end of a row of turns: see `LogPump._look_again`.
        self.has_more = self.left_bytes is not None or count > 0
        return count

    def _write(self, block: bytes, waiting: int, *, is_last: bool) -> int:
        stamp = format_time(self._wall_ns())
        continues = self._cursor.mid_line
        end = block.rfind(b"\n") + 1
        mid_line = False
        if end:
            block = block[:end]
            out = self._encoder.lines(block, stamp, continues=continues)
        elif not block:
            return 0
        elif is_last and not self._is_raw:
            out = self._encoder.lines(block + b"\n", stamp, continues=continues)
        elif is_last or self.flush or len(block) >= min(self.source.capacity_bytes // 2, _LINE_MAX_BYTES):
            out = [self._encoder.piece(block, stamp, continues=continues)]
            mid_line = not is_last
        else:
            self.waits_for_newline = True
            return 0
        self.flush = False
        return self._commit(out, block, waiting, mid_line=mid_line)

    def _commit(self, out: list[Part], block: bytes, waiting: int, *, mid_line: bool) -> int:
        """Write `out`, or as much of it as the size limit allows (at least a line), then consume what that was."""
        count = len(block)
        self.file.rotate_if_due(mid_line=self._cursor.mid_line)
        room = self.file.room_bytes()
        if room is not None and sum(map(len, out)) > room:
            whole = b"".join(out)
            cut = whole.find(b"\n", max(room - 1, 0)) + 1
            if 0 < cut < len(whole):
                lines = whole.count(b"\n", 0, cut)  # as many lines as in the block, whatever the form
                out = [memoryview(whole)[:cut]]
                count -= len(block.split(b"\n", lines)[-1])
                block = block[:count]
                mid_line = False
        lead = self.file.lead(is_new_stream=self._cursor.is_new)
        if lead:
            out = [lead, *out]
        self.file.append(out, self._cursor, count, waiting, fingerprint(block), mid_line=mid_line)
        self._cursor.is_new = False
        self.source.consume(count)
        if self._listener is not None:
            self._listener.feed(self.stream, block)
        self._cursor.settle(mid_line=mid_line)
        return count

    def _recover(self) -> None:
        """Take away what an earlier manager wrote and was killed before it could."""
        intent = self._cursor.written()
        if intent is not None:
            usual_bytes, self.source.block_bytes = self.source.block_bytes, max(intent.taken, 1)
            block = self.source.peek() or b""
            self.source.block_bytes = usual_bytes  # which may have been another, for another format
            unread = self.source.waiting_bytes() >= intent.waiting and len(block) >= intent.taken
            if unread and fingerprint(block[: intent.taken]) == intent.fingerprint:
                self.source.consume(intent.taken)
        self._cursor.settle(mid_line=self._cursor.mid_line if intent is None else bool(intent.mid_line))
        self._recovered = True

    def _end(self) -> None:
        if self._cursor.mid_line and not self._is_raw:
            # The line had pieces, and nothing came after them: an empty last piece ends it for readers.
            self._commit_end()
        self._cursor.release()
        self.ended = True
        if self._listener is not None:
            self._listener.end(self.stream)

    def _commit_end(self) -> None:
        self.file.rotate_if_due(mid_line=True)
        out = self._encoder.lines(b"\n", format_time(self._wall_ns()), continues=True)
        self.file.append(out, self._cursor, 0, 0, fingerprint(b""), mid_line=False)
        self._cursor.settle(mid_line=False)

    def finish(self, now_s: float) -> None:
        """Write what is in the pipe now, as the manager goes; the stream itself goes on."""
        left = self.source.waiting_bytes()
        while left > 0 and not self.ended:
            moved = self.turn(now_s)
            if moved == 0 and not self.waits_for_newline:
                return
            self.flush = self.waits_for_newline
            left -= moved

    def close(self) -> None:
        """Close the descriptor."""
        self.source.close()
