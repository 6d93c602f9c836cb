"""How an answer goes over the socket, complete or with a fault. No other module uses transports."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.answers import Answer
from sandbox.faults import Fault

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TRANSPORT = "sandbox.transport"
LINGER_ZERO = struct.pack("ii", 1, 0)  # makes close() send RST instead of FIN


class SandboxProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also hands the connection's transport to the application."""

    def on_message_begin(self) -> None:
        """Keep the transport where ``send_answer`` finds it."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]


async def send_answer(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer as its fault says; complete, if it has no fault or one of content only."""
    fault = answer.fault.fault if answer.fault else None
    if answer.fault is None or fault not in _AT_THE_SOCKET:
        await send_whole(answer, send)
        return
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await _AT_THE_SOCKET[fault](transport, answer, answer.fault.pause, gone)
        await gone  # uvicorn must see the connection end before this call returns
    finally:
        gone.cancel()


async def send_whole(answer: Answer, send: Send) -> None:
    """Send an answer as ASGI messages."""
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", str(len(answer.body)).encode()),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _gone(receive: Receive) -> None:
    """Return once the connection has ended."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait(gone: asyncio.Future[None], seconds: float) -> bool:
    """Wait for some seconds, or until the caller disconnects; gives whether the caller is still connected."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(gone), seconds)
    return not gone.done()


async def _lose(transport: asyncio.Transport, _answer: Answer, _pause: float, _gone: asyncio.Future[None]) -> None:
    transport.close()


async def _reset(transport: asyncio.Transport, _answer: Answer, _pause: float, _gone: asyncio.Future[None]) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()


async def _hang(transport: asyncio.Transport, _answer: Answer, pause: float, gone: asyncio.Future[None]) -> None:
    await _wait(gone, pause)
    transport.close()


async def _send_late(transport: asyncio.Transport, answer: Answer, pause: float, gone: asyncio.Future[None]) -> None:
    if await _wait(gone, pause):
        transport.write(_head(answer) + answer.body)
        transport.close()


async def _truncate(transport: asyncio.Transport, answer: Answer, _pause: float, _gone: asyncio.Future[None]) -> None:
    transport.write(_head(answer) + answer.body[: len(answer.body) // 2])
    transport.close()


async def _drip(transport: asyncio.Transport, answer: Answer, pause: float, gone: asyncio.Future[None]) -> None:
    transport.write(_head(answer))
    await _drip_bytes(transport, answer.body, pause, gone)


async def _drip_all(transport: asyncio.Transport, answer: Answer, pause: float, gone: asyncio.Future[None]) -> None:
    await _drip_bytes(transport, _head(answer) + answer.body, pause, gone)


async def _drip_bytes(transport: asyncio.Transport, data: bytes, pause: float, gone: asyncio.Future[None]) -> None:
    for position in range(len(data)):
        if not await _wait(gone, pause):
            return
        transport.write(data[position : position + 1])
    transport.close()


def _head(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_AT_THE_SOCKET = {
    Fault.LOST_ANSWER: _lose,
    Fault.CONNECTION_RESET: _reset,
    Fault.HANG: _hang,
    Fault.SLOW: _send_late,
    Fault.LATE: _hang,
    Fault.TRUNCATED: _truncate,
    Fault.DRIP: _drip,
    Fault.DRIP_HEADERS: _drip_all,
}
