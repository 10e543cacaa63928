"""What a request is charged in the order of the line when its grant goes another way than usual.

A slot is granted on a replica which has gone: its caller waits on, and pays at most once. A slot is
granted without the flow Redis: it is not charged, so nothing of it is given back.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import httpx
import pytest
import redis.asyncio as redis
from aiohttp import web

from gateway.engines.replica_record import Replica
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from tests.gateway_callers import caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
PATH = "/v1/chat/completions"
USED_TOKENS = 12
Start = Callable[..., GatewayProcess]


async def answer(request: EngineRequest) -> web.StreamResponse:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": USED_TOKENS}
    return web.json_response({"choices": [], "usage": usage})


class GoneReplica:
    """A replica that only a worker of old knows, which keeps offering its slots on the flow Redis.

    Who is granted one finds no such replica.
    """

    def __init__(self, flow: FlowRedis) -> None:
        bounds = LineBounds(tickets_max=1000, wait_s_max=300, bytes_max=1 << 30)
        self._line = PoolLine(flow, MODEL, "0" * 12, bounds, time.monotonic)
        gone = Replica(
            model=MODEL, replica_id="gone", url="http://127.0.0.1:1", state="running", slots=4
        )
        self._line.lease.replicas = {"gone": gone}

    async def _offer(self) -> None:
        # The gateway's heartbeat takes it out once a second.
        while True:
            await self._line.lease.renew()
            await asyncio.sleep(0.02)

    async def __aenter__(self) -> Self:
        self._offering = asyncio.create_task(self._offer())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """With the gateway's next heartbeat nobody offers it any more."""
        self._offering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._offering
        await self._line.lease.stop()


@pytest.fixture
async def replicas(
    flow_server: RedisServer, engine: ScriptedEngine
) -> AsyncIterator[PublishedReplicas]:
    """One, which a gateway needs to be ready; and whoever keeps the model wants one."""
    engine.script = answer
    async with PublishedReplicas(flow_server.url, MODEL) as published:
        published.wanted = 1
        published.add("first", engine.url)
        yield published


async def until_without_replica(gateway: GatewayProcess, replicas: PublishedReplicas) -> None:
    """The model's callers wait from now on: the line's heartbeat offers no slot any more."""
    while not await gateway.metric(r"floodgate_slots_capacity\{"):
        await asyncio.sleep(0.05)
    replicas.remove("first")
    while await gateway.metric(r"floodgate_slots_capacity\{"):
        await asyncio.sleep(0.05)


class Counter:
    """Where the account stands in the order of the line, in tokens: its plan's weight is 1."""

    def __init__(self, state: redis.Redis, account_id: str) -> None:
        self._state = state
        self._account_id = account_id

    async def until(self, condition: Callable[[float], bool]) -> None:
        key = redis_keys.pool(MODEL) + ":counters"
        seen = None
        try:
            async with asyncio.timeout(20):
                while seen is None or not condition(seen):
                    await asyncio.sleep(0.01)
                    seen = float(await self._state.zscore(key, self._account_id) or 0)
        except TimeoutError:
            raise AssertionError(f"the account's counter stays at {seen} tokens") from None


@pytest.fixture
async def counter(flow_server: RedisServer, account_id: str) -> AsyncIterator[Counter]:
    async with redis.Redis.from_url(flow_server.url, decode_responses=True) as state:
        yield Counter(state, account_id)


@pytest.mark.parametrize("end", ["waited too long", "hung up"])
async def test_who_gets_no_slot_after_all_is_given_its_charge_back_in_the_order_too(
    start_gateway: Start,
    api_key: str,
    replicas: PublishedReplicas,
    flow: FlowRedis,
    counter: Counter,
    end: str,
) -> None:
    gateway = start_gateway(upstream_url="", queue_wait_s_max=3)
    async with gateway, caller(gateway, api_key) as client:
        await until_without_replica(gateway, replicas)
        async with GoneReplica(flow):
            asked = asyncio.create_task(client.post(PATH, json=CHAT))
            await counter.until(lambda tokens: tokens > 50)
        await until_waiting(client, 1)
        if end == "hung up":
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        else:
            refused = await asked
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_capacity")
        await counter.until(lambda tokens: tokens == 0)


async def test_who_is_served_by_another_replica_is_charged_once(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    replicas: PublishedReplicas,
    flow: FlowRedis,
    counter: Counter,
) -> None:
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        await until_without_replica(gateway, replicas)
        async with GoneReplica(flow):
            asked = asyncio.create_task(client.post(PATH, json=CHAT))
            await counter.until(lambda tokens: tokens > 50)
        await until_waiting(client, 1)
        replicas.add("next", engine.url)
        assert (await asked).status_code == 200
        await counter.until(lambda tokens: tokens == USED_TOKENS)


async def test_what_was_granted_without_redis_gives_nothing_back_that_was_not_charged(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    replicas: PublishedReplicas,
    flow_server: RedisServer,
    counter: Counter,
) -> None:
    """The paused Redis has kept the account's counter, as it was before."""
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        await counter.until(lambda tokens: tokens == USED_TOKENS)
        go_on = asyncio.Event()

        async def answer_when_told(request: EngineRequest) -> web.StreamResponse:
            await go_on.wait()
            return await answer(request)

        engine.script = answer_when_told
        flow_server.pause()
        # From then on no call is under way that Redis would carry out once it goes on.
        await until_flow_is(gateway, "gone")
        asked = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(1)
        flow_server.resume()
        await until_flow_is(gateway, "ok")
        go_on.set()
        assert (await asked).status_code == 200
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        await counter.until(lambda tokens: tokens == 2 * USED_TOKENS)


async def until_flow_is(gateway: GatewayProcess, state: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        while (await client.get("/readyz")).json()["flow"] != state:
            await asyncio.sleep(0.05)
