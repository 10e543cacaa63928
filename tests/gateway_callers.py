"""Callers of a gateway process, the line as they see it, and what they are charged."""

import asyncio
from typing import Any, NamedTuple, Protocol, cast

import httpx
import redis.asyncio as redis

from gateway.flow import redis_keys
from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer


def caller(gateway: GatewayProcess, api_key: str) -> httpx.AsyncClient:
    """Each of its requests under way has a connection of its own, however many there are."""
    return httpx.AsyncClient(
        base_url=gateway.url,
        headers={"authorization": f"Bearer {api_key}"},
        timeout=55,
        limits=httpx.Limits(max_connections=None),
    )


async def until_waiting(client: httpx.AsyncClient, count: int) -> dict[str, Any]:
    """The account's view of the line, once so many of its requests wait."""
    while True:
        answer = await client.get("/v1/queue")
        if answer.status_code == 200:  # else the flow Redis did not answer in time
            view = answer.json()["models"]
            if sum(len(model["waiting"]) for model in view) == count:
                return dict(view[0])
        await asyncio.sleep(0.02)


class FlowServer(Protocol):
    """Where a flow Redis is."""

    @property
    def url(self) -> str: ...


async def day_tokens(flow: FlowServer, account_id: str) -> int:
    """What the account is charged today, reservations included; its plan must count days."""
    async with redis.Redis.from_url(flow.url, decode_responses=True) as client:
        return int(await client.hget(redis_keys.account_limits(account_id), "day_tokens") or 0)


async def until_day_tokens(flow: FlowServer, account_id: str, expected: int) -> None:
    while await day_tokens(flow, account_id) != expected:
        await asyncio.sleep(0.01)


class WorkerLoad(NamedTuple):
    """What one worker has of one line, as the flow Redis knows it."""

    running: int
    waiting: int


async def until_usage(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The days that have a usage, once the first of it is written."""
    while not (days := (await client.get("/keys/usage?days=2")).json()["days"]):
        await asyncio.sleep(0.05)
    return cast("list[dict[str, Any]]", days)


async def load_by_worker(flow: RedisServer) -> dict[str, WorkerLoad]:
    """By worker id, those whose lease has not been taken away.

    Of the gateway that a test has started: the one that tests share has another line.
    """
    async with redis.Redis.from_url(flow.url, decode_responses=True) as client:
        (leases,) = [key async for key in client.scan_iter("fg:pool:*localhost*:leases")] or [""]
        pool = leases.removesuffix(":leases")
        found = {}
        # Strings, since the client decodes; redis does not tell that by its types.
        for worker in cast("list[str]", await client.zrange(leases, 0, -1)):
            keys = f"{pool}:worker:{worker}"
            slots = await client.hvals(keys + ":slots")
            found[worker] = WorkerLoad(sum(map(int, slots)), await client.hlen(keys + ":tickets"))
    return found


async def until_arrived(flow: RedisServer, count: int) -> None:
    """Until so many callers, of all workers, have a slot or a place in line."""
    while sum(map(sum, (await load_by_worker(flow)).values())) < count:
        await asyncio.sleep(0.01)


class Listening:
    """One answer, read as it comes in a task of its own; `done` raises what the reading raised."""

    def __init__(self, client: httpx.AsyncClient, path: str, body: object, **sent: Any) -> None:
        self.status = 0
        self.text = b""
        self.done = asyncio.create_task(self._read(client, path, body, sent))

    async def until(self, what: bytes, count: int = 1) -> None:
        """Until this much was heard. Raises when the answer ends before."""
        while self.text.count(what) < count:
            assert not self.done.done(), f"ended with {self.status} {self.text!r}"
            await asyncio.sleep(0.01)

    async def _read(
        self, client: httpx.AsyncClient, path: str, body: object, sent: dict[str, Any]
    ) -> None:
        async with client.stream("POST", path, json=body, **sent) as answer:
            self.status = answer.status_code
            async for piece in answer.aiter_raw():
                self.text += piece
