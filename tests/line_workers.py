"""Workers of one line on a real flow Redis, without the gateway around them."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from gateway.engines.replica_record import Replica
from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_channel import FlowChannel
from gateway.flow.redis_client import FlowRedis
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Granted, SlotAsk, Ticket
from tests.redis_server import RedisServer
from tests.tcp_proxy import TcpProxy

POOL = "m"
KEYS = redis_keys.pool(POOL)
Connect = Callable[..., FlowRedis]


def replica(name: str, slots: int) -> Replica:
    return Replica(
        model=POOL, replica_id=name, url="http://127.0.0.1:1", state="running", slots=slots
    )


def ask(account: str, charge: float = 100, concurrent: int = 1000, waiting: int = 1000) -> SlotAsk:
    return SlotAsk(account, charge, concurrent, waiting, tokens=round(charge))


class Workers:
    """Makes lines of one pool, each a worker of its own with the same replicas."""

    def __init__(self, connect: Connect, server: RedisServer) -> None:
        self._connect = connect
        self._server = server
        self._numbers: Iterator[int] = iter(range(1000))
        self.lines: list[PoolLine] = []
        self.tasks: list[asyncio.Task[None]] = []

    def new(
        self, *replicas: Replica, bounds: LineBounds | None = None, by: TcpProxy | None = None
    ) -> PoolLine:
        """`by`: what stands between the worker and its Redis; grants are pushed around it."""
        line = PoolLine(
            self._connect(self._server.url_at(by.port) if by else self._server.url),
            POOL,
            f"{next(self._numbers):012x}",
            bounds or LineBounds(tickets_max=10_000, wait_s_max=300, bytes_max=1 << 30),
            time.monotonic,
        )
        line.lease.replicas = {r.replica_id: r for r in replicas}
        self.lines.append(line)
        self.tasks.append(asyncio.create_task(self._receive(line)))
        return line

    async def _receive(self, line: PoolLine) -> None:
        """What Admission.receive_grants does for one line."""
        channel = FlowChannel(
            self._server.url, redis_keys.grants_channel(line.lease.worker_id), deadline_s=2.0
        )
        while True:
            with contextlib.suppress(FlowUnavailable):
                async for message in channel.messages():
                    line.lease.take_grants(message.partition("\n")[2].split(" "))
            await asyncio.sleep(0.02)

    async def beat(self, *lines: PoolLine) -> None:
        for line in lines or self.lines:
            with contextlib.suppress(FlowUnavailable):
                await line.lease.renew()

    async def until(self, condition: Callable[[], Awaitable[bool]], *beating: PoolLine) -> None:
        while not await condition():
            await self.beat(*beating)
            await asyncio.sleep(0.02)

    async def until_slot(self, ticket: Ticket, *beating: PoolLine) -> None:
        async def is_granted() -> bool:
            return has_slot(ticket)

        await self.until(is_granted, *beating)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def used(state: Any) -> dict[str, int]:
    return {name: int(n) for name, n in (await state.hgetall(KEYS + ":slots")).items() if int(n)}


async def is_empty(state: Any) -> bool:
    """Nothing waits, nothing runs, nobody is owed a grant."""
    waiting = int(await state.hget(KEYS + ":state", "waiting") or 0)
    keys = [key async for key in state.scan_iter(KEYS + ":worker:*")]
    return (
        not await used(state)
        and waiting == 0
        and not keys
        and not int(await state.hget(KEYS + ":state", "owed") or 0)
        and not await state.exists(
            *(KEYS + kind for kind in (":running", ":line", ":served", ":entered"))
        )
    )


async def granted(ticket: Ticket) -> str:
    news = await ticket.next_news()
    assert isinstance(news, Granted)
    return news.replica_id


def has_slot(ticket: Ticket) -> bool:
    return ticket.granted is not None


async def has_waiting(state: Any, count: int) -> bool:
    return int(await state.hget(KEYS + ":state", "waiting") or 0) == count


async def serve(line: PoolLine, tickets: list[tuple[str, Ticket]], count: int) -> list[str]:
    """Serves one at a time; the accounts in the order in which they got the one slot."""
    order: list[str] = []
    waiting = dict(enumerate(tickets))
    while len(order) < count:
        for number, (account, ticket) in list(waiting.items()):
            if ticket.granted is not None:
                line.release(await granted(ticket), account)
                order.append(account)
                del waiting[number]
        await asyncio.sleep(0)
    return order


def serve_one_a_second(line: PoolLine) -> None:
    """What the line drains at, by two looks at it."""
    for at in (0, 10):
        line.lease.drain.look(at, granted=at, waiting=1)
    line.lease.waiting_everywhere = len(line.tickets.waiting)
