"""Reads a request's body within its bounds, and watches for the caller hanging up. Pure ASGI."""

import asyncio
from types import TracebackType

from starlette.types import Message, Receive

from gateway.errors import BodyTooLarge, ClientGone


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than bytes_max came.
        ClientGone: the caller hung up before the body's end.
    """
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("hung up while sending")
        part: bytes = message.get("body", b"")
        total += len(part)
        if total > bytes_max:
            raise BodyTooLarge(f"The body is larger than {bytes_max} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


class ClientWatch:
    """Cancels the work under `async with` when the caller hangs up, and raises ClientGone.

    Entered once the body has been read: from then on nothing but a disconnect can be received.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._disarmed = False

    async def __aenter__(self) -> "ClientWatch":
        worker = asyncio.current_task()
        assert worker is not None
        self._worker = worker
        self._watcher = asyncio.create_task(self._watch(), name="client-watch")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watcher.cancel()
        if self._gone and exc_type is asyncio.CancelledError and self._worker.uncancel() == 0:
            raise ClientGone("hung up") from None

    def disarm(self) -> None:
        """Call before the last byte is sent: servers report a finished answer as a disconnect."""
        self._disarmed = True

    async def _watch(self) -> None:
        message: Message = {"type": "http.request"}
        while message["type"] != "http.disconnect":
            message = await self._receive()
        if not self._disarmed:
            self._gone = True
            self._worker.cancel()
