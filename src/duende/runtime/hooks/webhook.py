"""Posting an event as JSON, signed as of Standard Webhooks (https://www.standardwebhooks.com), over asyncio and h11.

`webhook-id` is the same at every attempt, so a receiver can recognise what it has had already. The signature is
`v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`. Redirects are not followed: a signed alert goes where the
file says, or nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import h11

import duende
from duende.config.hook import HookConfig
from duende.runtime.hooks.retry import Outcome, parse_retry_after_s
from duende.runtime.hooks.threads import in_thread

__all__ = ["post", "shown_url", "signature"]

_READ_BYTES = 65536
_SAID_BYTES = 200  # of an answer that refuses, for the message
_TRY_AGAIN = (408, 425, 429)  # and every 5xx: RFC 9110, RFC 8470 and RFC 6585 say of these that later may be better


def signature(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`. A secret `whsec_…` is base64, any other is taken as it is."""
    key = base64.b64decode(secret[6:], validate=True) if secret.startswith(b"whsec_") else secret
    digest = hmac.new(key, b"%s.%d.%s" % (id.encode(), timestamp, body), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def shown_url(url: str) -> str:
    """A URL for messages: only its host, since path and query of many services are the password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/" + ("…" if parts.path.strip("/") or parts.query else "")


async def post(hook: HookConfig, event: Mapping[str, Any]) -> Outcome:
    """One attempt; the caller bounds its time."""
    assert hook.webhook is not None
    parts = urlsplit(hook.webhook)
    body = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace")
    try:
        secret, tls, addresses = await in_thread(lambda: _prepare(hook, parts), f"duende-hook-{hook.name}")
        headers = _headers(parts, event, body, secret)
        reader, writer = await _connect(parts, addresses, tls)
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        return Outcome(False, f"{shown_url(hook.webhook)}: {text}", is_final=isinstance(error, _Unusable))
    try:
        return await _exchange(parts, headers, body, reader, writer)
    except OSError as error:
        return Outcome(False, f"{shown_url(hook.webhook)}: {error.strerror or error}")
    except h11.ProtocolError as error:
        return Outcome(False, f"{shown_url(hook.webhook)}: what it says is not HTTP: {error}")
    finally:
        writer.transport.abort()  # an orderly end of TLS would wait for the other side


class _Unusable(ValueError):
    """Something of ours that no second attempt mends."""


def _prepare(hook: HookConfig, parts: SplitResult) -> tuple[bytes, ssl.SSLContext | None, list[tuple[str, int]]]:
    """Everything that may block: the secret's file, the system's certificates, the name service."""
    secret = _secret(hook.secret_file) if hook.secret_file is not None else b""
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    return secret, tls, [(str(address[0]), int(address[1])) for *_, address in found]


def _secret(path: Path) -> bytes:
    """Read anew each time, so that it can be changed under a running manager."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise OSError(f"cannot read the secret {path}: {error.strerror}") from error
    if not secret:
        raise _Unusable(f"the secret {path} is empty")
    return secret


def _headers(parts: SplitResult, event: Mapping[str, Any], body: bytes, secret: bytes) -> list[tuple[str, str]]:
    id, now = str(event["id"]), int(time.time())
    headers = [
        ("Host", parts.netloc.rpartition("@")[2]), ("User-Agent", f"duende/{duende.__version__}"),
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close"),
        ("webhook-id", id), ("webhook-timestamp", str(now)),
    ]  # fmt: skip
    if secret:
        try:
            headers.append(("webhook-signature", signature(secret, id, now, body)))
        except binascii.Error as error:
            raise _Unusable(f"the secret begins with whsec_ and is not base64: {error}") from None
    if parts.username is not None:
        account = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers.append(("Authorization", "Basic " + base64.b64encode(account).decode()))
    return headers


async def _connect(
    parts: SplitResult, addresses: list[tuple[str, int]], tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first address that answers."""
    failed: OSError = OSError("the name has no address")
    for host, port in addresses:
        try:
            return await asyncio.open_connection(host, port, ssl=tls, server_hostname=parts.hostname if tls else None)
        except OSError as error:
            failed = error
    raise failed


async def _exchange(
    parts: SplitResult, headers: list[tuple[str, str]], body: bytes, reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Outcome:  # fmt: skip
    connection = h11.Connection(h11.CLIENT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = h11.Request(method="POST", target=target, headers=headers)
    for piece in (request, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(connection.send(piece) or b"")
    with contextlib.suppress(ConnectionError):  # it may have answered without reading all; the answer says more
        await writer.drain()
    response: h11.Response | None = None
    said, has_spoken = b"", False
    shown = shown_url(parts.geturl())
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            if not data and response is None:
                text = "what it says is not HTTP" if has_spoken else "closed the connection without an answer"
                return Outcome(False, f"{shown}: {text}")
            has_spoken = True
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            if 200 <= event.status_code < 300:
                return Outcome(True, f"HTTP status {event.status_code}")
            response = event
        elif isinstance(event, h11.Data):
            said += event.data
        elif event is h11.PAUSED or isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
        if response is not None and len(said) >= _SAID_BYTES:
            break
    assert response is not None  # without one, the end of the connection is told above
    return _refused(response, said)


def _refused(response: h11.Response, said: bytes) -> Outcome:
    status = response.status_code
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    text = f"HTTP status {status}"
    if 300 <= status < 400:
        return Outcome(False, f"{text}: redirects are not followed, write the final URL", is_final=True)
    if words := " ".join(said[:_SAID_BYTES].decode(errors="replace").split()):
        text += f": {words}"
    wish_s = parse_retry_after_s(headers.get("retry-after", ""), now_unix_s=time.time())
    return Outcome(False, text, is_final=status < 500 and status not in _TRY_AGAIN, retry_after_s=wish_s)
