"""A TCP proxy between the gateway and its Redis, which may be slow, move, break, or talk for it.

Runs in the test's own loop, on a free loopback port.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Literal, Self

_PIECE_BYTES = 64 * 1024


class TcpProxy:
    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        # Connections break as a request comes, which then has not run, or as its answer comes.
        self.loses: Literal["nothing", "requests", "answers"] = "nothing"
        self.port = 0
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._callers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def fail_over_to(self, port: int) -> None:
        """As an address that moves to another server: open connections break."""
        self.lead_new_ones_to(port)
        for writer in tuple(self._writers):
            writer.transport.abort()

    def lead_new_ones_to(self, port: int) -> None:
        """As a name that stands for another server from now on: open connections stay."""
        self._target_port = port

    def say(self, data: bytes) -> None:
        """To all callers, as if Redis had."""
        for writer in self._callers:
            writer.write(data)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        target_port = self._target_port
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(to_writer)
        if target_port != self._target_port:  # it moved meanwhile
            to_writer.transport.abort()
        self._callers.add(writer)
        for source, sink in ((reader, to_writer), (to_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink, writer, to_writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *both: asyncio.StreamWriter
    ) -> None:
        carries = "requests" if sink is both[1] else "answers"
        with contextlib.suppress(OSError):
            while (piece := await source.read(_PIECE_BYTES)) and self.loses != carries:
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(piece)
                await sink.drain()
        for writer in both:
            writer.transport.abort()
            self._writers.discard(writer)
            self._callers.discard(writer)
