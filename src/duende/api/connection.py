"""One HTTP/1.1 connection: h11 knows the protocol, this moves its bytes and keeps the limits.

Every wait has an end: a request must be whole `REQUEST_S` after its first byte, an idle connection is closed after
`IDLE_S`, an answer must be taken within `WRITE_S`. Streams alone may go on forever; they end when their client leaves.
A client that only shut its sending side down (`nc -N`) still gets its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable

import h11

from duende.api.app import reply_of_problem
from duende.api.http import ClientGone, Reply, Request, StreamReply
from duende.api.problems import HttpProblem, problem_of

__all__ = ["BODY_MAX_BYTES", "HEADER_MAX_BYTES", "HEARTBEAT_S", "IDLE_S", "REQUEST_S", "WRITE_S", "Connection"]

HEADER_MAX_BYTES = 64 * 1024  # a query with the names of a thousand daemons fits
BODY_MAX_BYTES = 1024 * 1024
REQUEST_S = 10.0
IDLE_S = 30.0
WRITE_S = 30.0
LINGER_S = 1.0  # for a request that is refused unread
HEARTBEAT_S = 15.0  # the figure that the HTML standard suggests for server-sent events
_READ_BYTES = 64 * 1024


class Connection:
    """Serves the requests of one client, one after the other, until either side has enough."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        respond: Callable[[Request], Awaitable[Reply | StreamReply]],
        *,
        request_s: float = REQUEST_S,
        idle_s: float = IDLE_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._respond = respond
        self._request_s = request_s
        self._idle_s = idle_s
        self._heartbeat_s = heartbeat_s
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_MAX_BYTES)
        self.is_answering = False  # whether there is an answer worth waiting for when the server closes
        self.is_last = False  # the server closes: no request after the one under way

    async def run(self) -> None:
        """Serve until the connection is closed, by whichever side."""
        try:
            while await self._serve_one():
                pass
        except (ConnectionError, ClientGone, TimeoutError):
            self._writer.transport.abort()  # the client left, or takes nothing any more: nobody to tell
        except BaseException:
            self._writer.transport.abort()
            raise
        finally:
            await self._close()

    async def refuse(self, problem: HttpProblem) -> None:
        """Answer `problem` without reading a request, and close."""
        try:
            await self._send_reply(reply_of_problem(problem))
            self._writer.write_eof()
            # It may be about to send its request: closed under its hands, it would see an error and not our answer.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while await self._reader.read(_READ_BYTES):
                        continue
        except (ConnectionError, TimeoutError):
            self._writer.transport.abort()  # it did not wait for the refusal
        finally:
            await self._close()

    async def _serve_one(self) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request = await self._receive()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            too_long = status == 431
            detail = f"the header is longer than {HEADER_MAX_BYTES} bytes" if too_long else f"not HTTP/1.1: {error}"
            problem = HttpProblem(status, "header-too-large" if too_long else "bad-request", detail, closes=True)
            await self._send_reply(reply_of_problem(problem))
            return False
        except HttpProblem as problem:
            await self._send_reply(reply_of_problem(problem))
            return False
        if request is None:
            return False
        self.is_answering = True
        reply = await self._respond(request)
        if isinstance(reply, StreamReply):
            self.is_answering = False
            await self._send_stream(reply)
        else:
            await self._send_reply(reply, with_body=request.method != "HEAD")
        self.is_answering = False
        if not self.is_last and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def _receive(self) -> Request | None:
        """Read one request; None when the client has no more, or is idle for too long."""
        loop = asyncio.get_running_loop()
        has_begun = bool(self._http.trailing_data[0])  # pipelined behind the one before
        deadline_s = loop.time() + (self._request_s if has_begun else self._idle_s)
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                try:
                    async with asyncio.timeout_at(deadline_s):
                        data = await self._reader.read(_READ_BYTES)
                except TimeoutError:
                    if not has_begun:
                        return None
                    detail = f"the request was not whole after {self._request_s:g} s"
                    raise HttpProblem(408, "request-timeout", detail, closes=True) from None
                if data and not has_begun:
                    has_begun = True
                    deadline_s = loop.time() + self._request_s
                self._http.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
                _check_announced_length(event)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_MAX_BYTES:
                    raise _too_large()
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
                target = head.target.decode("latin-1")
                return Request(head.method.decode("ascii"), target, headers, bytes(body), self._until_gone)
            else:  # ConnectionClosed
                return None

    async def _send_reply(self, reply: Reply, *, with_body: bool = True) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("content-type", reply.content_type), ("content-length", str(len(reply.body))), *reply.headers]
        if reply.closes or self.is_last:
            headers.append(("connection", "close"))
        out = self._http.send(h11.Response(status_code=reply.status, headers=headers)) or b""
        if with_body:
            out += self._http.send(h11.Data(data=reply.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        self._writer.write(out)
        async with asyncio.timeout(WRITE_S):
            await self._writer.drain()

    async def _send_stream(self, reply: StreamReply) -> None:
        headers = [("content-type", reply.content_type), ("cache-control", "no-store")]
        gone = asyncio.create_task(self._until_gone())
        step: asyncio.Task[bytes | None] | None = None
        try:
            await self._send(h11.Response(status_code=200, headers=headers))
            while True:
                step = step or asyncio.create_task(_next(reply.items))
                done, _ = await asyncio.wait(
                    {step, gone}, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED
                )
                if gone in done:
                    raise ClientGone
                if not done:
                    await self._send(h11.Data(data=reply.heartbeat))
                    continue
                data, step = step.result(), None
                if data is None:
                    break
                if data:
                    await self._send(h11.Data(data=data))
            await self._send(h11.EndOfMessage())
        except (ClientGone, ConnectionError):
            raise
        except Exception as error:  # the answer has begun, so the error can only be logged …
            problem_of(error)
            raise ClientGone from error  # … and the connection cut, which the client sees as an end without end mark
        finally:
            tasks = [task for task in (step, gone) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await reply.items.aclose()

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()  # a reader who pauses (`| less`) pauses the stream, in bounded memory

    async def _until_gone(self) -> None:
        """Return when the client has closed its end for good. What it sends meanwhile is kept for the next request."""
        with contextlib.suppress(ConnectionError):  # that is gone as well
            while len(self._http.trailing_data[0]) < HEADER_MAX_BYTES:
                data = await self._reader.read(_READ_BYTES)
                if data:
                    self._http.receive_data(data)
                    continue
                self._http.receive_data(b"")
                if _is_hung_up(self._writer.get_extra_info("socket")):
                    return
                break
            else:
                pass  # it pipelines more than we keep, so we do not read on; that it left shows when we write
            await asyncio.Event().wait()

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(WRITE_S):
                await self._writer.wait_closed()
        except (ConnectionError, TimeoutError):
            self._writer.transport.abort()  # it takes nothing any more


async def _next(items: AsyncGenerator[bytes, None]) -> bytes | None:
    async for item in items:
        return item
    return None


def _is_hung_up(sock: socket.socket) -> bool:
    """Whether the other end is closed, rather than only its sending side: POLLHUP against POLLRDHUP, poll(2)."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(mask & (select.POLLHUP | select.POLLERR) for _, mask in poll.poll(0))


def _check_announced_length(head: h11.Request) -> None:
    for name, value in head.headers:
        if name == b"content-length" and int(value) > BODY_MAX_BYTES:
            raise _too_large()


def _too_large() -> HttpProblem:
    return HttpProblem(413, "body-too-large", f"the body is longer than {BODY_MAX_BYTES} bytes", closes=True)
