"""The flow Redis behind a network that is slow, and an address that moves to another server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
FALLBACKS = "floodgate_flow_fallbacks_total"
# Four times what a slow answer takes below: a busy test machine may stand still for a while.
DEADLINE_S = 2.0


@pytest.fixture
async def proxy(flow_server: RedisServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(flow_server.port) as running:
        yield running


@pytest.fixture
async def gateway(
    start_gateway: Callable[..., GatewayProcess], flow_server: RedisServer, proxy: TcpProxy
) -> AsyncIterator[GatewayProcess]:
    url = flow_server.url_at(proxy.port)
    async with start_gateway(flow_url=url, flow_deadline_s=DEADLINE_S, slots=2) as running:
        yield running


async def until_flow_is(state: str, gateway: GatewayProcess) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        while (await client.get("/readyz")).json()["flow"] != state:
            await asyncio.sleep(0.05)


async def test_a_slow_flow_redis_makes_requests_slow_and_nothing_else(
    gateway: GatewayProcess, client: httpx.AsyncClient, proxy: TcpProxy
) -> None:
    proxy.delay_s = DEADLINE_S / 8  # twice for each round trip
    before = await gateway.metric(FALLBACKS)
    for _ in range(5):
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert await gateway.metric(FALLBACKS) == before


async def test_one_slower_than_the_deadline_is_done_without_and_taken_back_by_itself(
    gateway: GatewayProcess, client: httpx.AsyncClient, proxy: TcpProxy
) -> None:
    assert (await client.post(PATH, json=CHAT)).status_code == 200
    before = await gateway.metric(FALLBACKS)
    proxy.delay_s = 1.5 * DEADLINE_S
    for _ in range(10):
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert await gateway.metric(FALLBACKS) > before
    await until_flow_is("gone", gateway)
    proxy.delay_s = 0
    await until_flow_is("ok", gateway)
    settled = await gateway.metric(FALLBACKS)
    for _ in range(5):
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert await gateway.metric(FALLBACKS) == settled


async def test_after_a_failover_the_new_server_learns_who_runs_and_who_waits(
    gateway: GatewayProcess,
    client: httpx.AsyncClient,
    proxy: TcpProxy,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    """The other server knows nothing: flow keeps nothing, so it never does."""
    go_on = asyncio.Event()

    async def held(request: EngineRequest):  # type: ignore[no-untyped-def]
        await go_on.wait()
        response = await request.stream()
        await response.write(b"data: [DONE]\n\n")
        return response

    engine.script = held
    calls = [asyncio.create_task(client.post(PATH, json=CHAT)) for _ in range(3)]
    await engine.request(1)
    await until_line(client, running=2, waiting=1)
    other = RedisServer.flow(tmp_path / "other")
    other.password = flow_server.password
    other.start()
    try:
        await proxy.fail_over_to(other.port)
        await until_line(client, running=2, waiting=1)
        assert len(engine.requests) == 2, "the slots of those who run are not given away"
        go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200] * 3
        await until_line(client, running=0, waiting=0)
    finally:
        other.stop()


async def until_line(client: httpx.AsyncClient, *, running: int, waiting: int) -> None:
    while True:
        answer = await client.get("/v1/queue")
        if answer.status_code == 200:
            (model,) = answer.json()["models"]
            if (model["running"], len(model["waiting"])) == (running, waiting):
                return
        await asyncio.sleep(0.05)
