"""A replica fails before its first byte: another one answers, once, and the caller pays once."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from aiohttp import web

from tests.gateway_callers import caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, Script, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
EVENTS = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
Start = Callable[..., GatewayProcess]


async def answer(request: EngineRequest) -> web.StreamResponse:
    if b'"stream":true' not in request.body:
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        return web.json_response({"choices": [], "usage": usage})
    response = await request.stream()
    await response.write(EVENTS)
    return response


async def fall_in_prefill(request: EngineRequest) -> web.StreamResponse:
    response = await request.stream()
    request.cut()
    return response


async def fall_in_the_body(request: EngineRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = 100
    await response.prepare(request.raw)
    await response.write(b'{"choices":')
    request.cut()
    return response


async def fall_at_once(request: EngineRequest) -> web.StreamResponse:
    request.cut()
    return web.Response()


async def dying_engine(request: EngineRequest) -> web.StreamResponse:
    return web.json_response({"error": {"message": "EngineCore died"}}, status=500)


async def fall_in_mid_stream(request: EngineRequest) -> web.StreamResponse:
    response = await request.stream()
    await response.write(EVENTS.partition(b"data: [DONE]")[0])
    request.cut()
    return response


@pytest.fixture
async def other() -> AsyncIterator[ScriptedEngine]:
    """The replica that works."""
    async with ScriptedEngine() as running:
        running.script = answer
        yield running


@pytest.fixture
async def replicas(flow_server: RedisServer) -> AsyncIterator[PublishedReplicas]:
    async with PublishedReplicas(flow_server.url, MODEL) as published:
        yield published


@pytest.fixture
def pair(replicas: PublishedReplicas, engine: ScriptedEngine, other: ScriptedEngine) -> None:
    """One that a test lets fail, which is chosen first, and the other."""
    replicas.add("falls", engine.url, slots=8)
    replicas.add("works", other.url, slots=1)


@pytest.mark.parametrize(
    ("body", "fall"),
    [
        (STREAM, fall_in_prefill),
        (STREAM, fall_at_once),
        (STREAM, dying_engine),
        (CHAT, fall_in_the_body),
        (CHAT, fall_at_once),
        (CHAT, dying_engine),
    ],
)
async def test_another_replica_answers(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
    body: dict[str, object],
    fall: Script,
) -> None:
    engine.script = fall
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(PATH, json=body)
        assert found.status_code == 200
        assert (found.content == EVENTS) is (body is STREAM)
        assert (len(engine.requests), len(other.requests)) == (1, 1)
        assert await gateway.metric(r"floodgate_admitted_total\{") == 1
        while not (days := (await client.get("/keys/usage?days=2")).json()["days"]):
            await asyncio.sleep(0.05)
        assert days[0]["requests"] == 1
        while await gateway.metric(r"floodgate_slots_held\{"):
            await asyncio.sleep(0.05)


async def test_both_fail_and_the_caller_is_told_and_pays_nothing(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
) -> None:
    engine.script = other.script = fall_in_prefill
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(PATH, json=STREAM)
        assert (found.status_code, found.json()["error"]["code"]) == (503, "engine_gone")
        assert (len(engine.requests), len(other.requests)) == (1, 1)
        settled = r"floodgate_tokens_settled_total\{"
        assert await gateway.metric(settled) == 0


async def test_after_the_first_byte_nobody_else_is_asked(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
) -> None:
    engine.script = fall_in_mid_stream
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(PATH, json=STREAM)
        assert found.status_code == 200
        assert b'"engine_gone"' in found.content
        assert not other.requests


@pytest.mark.parametrize("wanted", [1, 0], ids=["another is wanted", "the model goes to sleep"])
async def test_the_only_replica_dies_and_its_caller_waits_in_line_for_the_next(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    replicas: PublishedReplicas,
    wanted: int,
) -> None:
    engine.script = fall_in_prefill
    replicas.wanted = wanted
    replicas.add("dies", engine.url)
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        asked = asyncio.create_task(client.post(PATH, json=STREAM))
        await engine.request(0)
        replicas.fall_silent("dies")
        await until_waiting(client, 1)
        replicas.add("next", other.url)
        assert (await asked).content.endswith(EVENTS)


async def test_a_replica_that_falls_silent_under_a_request_is_given_up(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    pair: None,
    replicas: PublishedReplicas,
) -> None:
    """Its machine is gone: the connection stays open, and no byte will ever come."""

    async def hang(request: EngineRequest) -> web.StreamResponse:
        await request.stream()
        return await request.wait_until_gone()

    engine.script = hang
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        asked = asyncio.create_task(client.post(PATH, json=STREAM))
        await engine.request(0)
        replicas.fall_silent("falls")
        found: httpx.Response = await asked
        assert found.content == EVENTS
