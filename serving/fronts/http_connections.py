"""Bounds on HTTP connections that the HTTP library does not set."""

import asyncio

from aiohttp import web


class HttpConnections:
    """Makes the protocol of each new connection, as `loop.create_server` asks for it.

    A connection that has not sent the whole head of a request in time is closed, and
    so is one that comes when there are too many.

    Args:
        server: makes the protocols and knows those that are open.
        most: connections open at once; more are closed.
        seconds: longest time for the head of the first request. (Later ones have the
            library's own limit on idle connections.)
    """

    def __init__(self, server: web.Server, *, most: int, seconds: float):
        self._server = server
        self._most, self._seconds = most, seconds
        self._silent: set[asyncio.BaseProtocol] = set()

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._most:
            return _Closed()
        protocol = self._server()
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


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.abort()
