"""A real HTTP server for webhooks (asyncio and h11): each request is answered by the next of its answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import h11

HANG = "hang"
CLOSE = "close"
GARBAGE = "garbage"
Answer = tuple[int, dict[str, str], bytes] | str


@dataclass
class Receiver:
    """`requests` are the headers and bodies that came. The last answer holds for ever."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in?key=1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            target, headers, body = "", {}, b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    target = event.target.decode()
                    headers = {name.decode().lower(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return  # the client went away
            self.requests.append((target, headers, body))
            self.came.set()
            await self._answer(connection, reader, writer)
        finally:
            writer.close()

    async def _answer(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == HANG:
            with contextlib.suppress(ConnectionError):
                await reader.read()  # until the client has had enough
        elif answer == GARBAGE:
            writer.write(b"220 mail.example ESMTP\r\n")
        elif not isinstance(answer, str):
            status, headers, body = answer
            pairs = [*headers.items(), ("Content-Length", str(len(body)))]
            for part in (h11.Response(status_code=status, headers=pairs), h11.Data(data=body), h11.EndOfMessage()):
                writer.write(connection.send(part) or b"")
            await writer.drain()


@contextlib.asynccontextmanager
async def receiver(answers: Sequence[Answer]) -> AsyncIterator[Receiver]:
    """Listens on a free port while the block runs."""
    made = Receiver(list(answers))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(made.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
