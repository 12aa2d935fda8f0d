"""Bounds on HTTP connections that the HTTP library does not set, and errors in JSON."""

import asyncio

from aiohttp import web

from serving.fronts import json_answers
from serving.status_codes import HTTP, Code

_REFUSED_SECONDS = 1.0
_REASON = "The server is at its limit of connections"


class HttpConnections:
    """Makes the protocol of each new connection, as `loop.create_server` asks for it.

    A connection that has not sent the whole head of a request in time is closed. One
    that comes when there are too many is told so: 503.

    Args:
        server: makes the protocols and knows those that are open.
        most: connections open at once; more are refused.
        seconds: longest time for the head of the first request. (Later ones have the
            library's own limit on idle connections.)
    """

    def __init__(self, server: web.Server, *, most: int, seconds: float):
        self._server = server
        self._most, self._seconds = most, seconds
        self._silent: set[asyncio.BaseProtocol] = set()
        self._refused: set[asyncio.BaseProtocol] = set()

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._most:
            return _Refused(self._refused, is_told=len(self._refused) < self._most)
        protocol = self._server()
        # The library asks nobody which class it is to make.
        protocol.__class__ = _JsonErrors
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(
            self._seconds, self._close_silent, protocol
        )
        return protocol

    def heard(self, request: web.BaseRequest) -> None:
        """Notes that the head of a request has come: its connection stays."""
        self._silent.discard(request.protocol)

    def _close_silent(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()


class _JsonErrors(web.RequestHandler):
    """Answers what the library itself refuses as the API answers errors."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        refused = super().handle_error(request, status, exc, message)
        text = f"The request cannot be read: {message or refused.reason}"
        response = web.Response(
            status=refused.status,
            body=json_answers.error_json(text),
            headers={"Content-Type": "application/json"},
        )
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """Tells a connection that there are too many, and closes it.

    Args:
        others: those that are being told; this one is among them until it is gone.
        is_told: False: it is closed without a word.
    """

    def __init__(self, others: set[asyncio.BaseProtocol], *, is_told: bool):
        self._others, self._is_told = others, is_told

    def connection_made(self, transport: asyncio.Transport) -> None:
        if not self._is_told:
            transport.abort()
            return
        self._others.add(self)
        body = json_answers.error_json(_REASON)
        head = (
            f"HTTP/1.1 {HTTP[Code.UNAVAILABLE]} Service Unavailable\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        transport.write(head.encode() + body)
        # To close it while its request is under way would take the answer with it.
        transport.write_eof()
        asyncio.get_running_loop().call_later(_REFUSED_SECONDS, transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self._others.discard(self)
