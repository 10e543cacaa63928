"""Reads a request's body within its bounds, and watches for the caller hanging up. Pure ASGI."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from starlette.types import Message, Receive, Scope

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


# ASGI extension of gateway.connection.bounded_protocol. Its `when_gone` is called with what is to
# run when the caller's connection is lost, and with None to take that back. It spares each request
# a task.
DISCONNECT_EXTENSION = "floodgate.disconnect"


class ClientWatch:
    """Cancels the work under `async with` when the caller hangs up, and raises ClientGone.

    Entered once the body has been read: from then on nothing but a disconnect can be received.
    Servers without the extension are watched by a task that waits to receive it.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        extension = (scope.get("extensions") or {}).get(DISCONNECT_EXTENSION, {})
        self._when_gone: Callable[[Callable[[], None] | None], None] | None = extension.get(
            "when_gone"
        )
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False
        self._disarmed = False

    async def __aenter__(self) -> "ClientWatch":
        worker = asyncio.current_task()
        assert worker is not None
        self._worker = worker
        if self._when_gone is not None:
            self._when_gone(self._end_work)
        else:
            self._watcher = asyncio.create_task(self._watch(), name="client-watch")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._disarmed = True
        if self._watcher is not None:
            self._watcher.cancel()
        elif self._when_gone is not None:
            self._when_gone(None)
        if self._gone and exc_type is asyncio.CancelledError and self._worker.uncancel() == 0:
            raise ClientGone("hung up") from None

    @property
    def client_is_gone(self) -> bool:
        """Whether it was the caller's hanging up that cancelled the work."""
        return self._gone

    def disarm(self) -> None:
        """Call before the last byte is sent: servers report a finished answer as a disconnect."""
        self._disarmed = True

    async def _watch(self) -> None:
        message: Message = {"type": "http.request"}
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self._end_work()

    def _end_work(self) -> None:
        if not self._disarmed:
            self._gone = True
            self._worker.cancel()
