"""The connection to the flow Redis: commands out, answers in the order of the commands.

redis-py makes the connection, which knows addresses, TLS and passwords, and leaves its transport to
us. Through its own reading each answer costs a coroutine and each batch two timers, 8 of a call's
17 µs; here what has come is parsed by hiredis and handed on at once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.errors import FlowUnavailable

_NOTHING_YET = object()


class RedisRefusal(Exception):
    """Redis answered a command with an error."""

    @property
    def is_unknown_script(self) -> bool:
        """What Redis did not know, it did not execute."""
        return str(self).startswith("NOSCRIPT")


class RedisWire(asyncio.Protocol):
    """`on_answers` gets what has come, refusals as RedisRefusal; `on_lost` why nothing will."""

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float,
        on_answers: Callable[[list[Any]], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._connection: redis.Connection = redis.ConnectionPool.from_url(
            url,
            socket_connect_timeout=deadline_s,
            # A script that takes a slot must not be sent twice: no retries below us.
            retry=Retry(NoBackoff(), 0),
            client_name="floodgate-gateway",
            decode_responses=True,
        ).make_connection()  # type: ignore[no-untyped-call]
        self._on_answers = on_answers
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._before: asyncio.BaseProtocol | None = None

    @property
    def is_connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def connect(self) -> None:
        """Raises:
        FlowUnavailable: nobody listens there, or lets us in.
        """
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise FlowUnavailable(str(error)) from error
        writer = self._connection._writer
        assert writer is not None
        self._transport = writer.transport
        self._before = writer.transport.get_protocol()
        self._reader = hiredis.Reader(
            encoding="utf-8",
            notEnoughData=_NOTHING_YET,
            # hiredis's stubs ask for a function of a text.
            replyError=RedisRefusal,
        )
        writer.transport.set_protocol(self)

    def send(self, commands: Sequence[tuple[str | int, ...]]) -> None:
        assert self._transport is not None
        # hiredis's stubs ask for a tuple of one.
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
        self._transport.write(b"".join(packed))

    def cut(self) -> None:
        """Answers that are still to come are not waited for: later calls would get them."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._connection._close()  # type: ignore[no-untyped-call]

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        answers = []
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING_YET:
                answers.append(answer)
        except (hiredis.ProtocolError, UnicodeDecodeError) as error:
            self._on_lost(error)
            return
        if answers:
            self._on_answers(answers)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._before is not None:  # redis-py's own streams
            self._before.connection_lost(exc)
        if self._transport is not None:
            self.cut()
            self._on_lost(exc or ConnectionResetError("connection closed by the server"))
