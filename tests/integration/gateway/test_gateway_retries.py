"""A replica fails before its first byte: another one answers, once, and the caller pays once."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.free_ports import free_port
from tests.gateway_callers import (
    Listening,
    caller,
    day_tokens,
    until_day_tokens,
    until_usage,
    until_waiting,
)
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, Script, ScriptedEngine

pytestmark = pytest.mark.integration

OUTPUT_TOKENS_MAX = 5
CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": OUTPUT_TOKENS_MAX,
}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
EVENTS = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
USED_TOKENS = 12
Start = Callable[..., GatewayProcess]


async def answer(request: EngineRequest) -> web.StreamResponse:
    if b'"stream":true' not in request.body:
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": USED_TOKENS}
        return web.json_response({"choices": [], "usage": usage})
    response = await request.stream()
    await response.write(EVENTS)
    return response


async def fall_in_prefill(request: EngineRequest) -> web.StreamResponse:
    response = await request.stream()
    request.cut()
    return response


async def hang(request: EngineRequest) -> web.StreamResponse:
    await request.stream()
    return await request.wait_until_gone()


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


async def dying_engine_in_prefill(request: EngineRequest) -> web.StreamResponse:
    response = await request.stream()
    await response.write(b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n')
    return response


@pytest.fixture
async def other() -> AsyncIterator[ScriptedEngine]:
    """The replica that works."""
    async with ScriptedEngine() as running:
        running.script = answer
        yield running


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
        days = await until_usage(client)
        assert days[0]["requests"] == 1
        while await gateway.metric(r"floodgate_slots_held\{"):
            await asyncio.sleep(0.05)


async def test_who_waits_for_another_replica_holds_no_slot(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, replicas: PublishedReplicas
) -> None:
    """The only replica has cut one connection, and serves the next caller."""
    replicas.wanted = 1
    replicas.add("alone", engine.url, slots=1)
    engine.script = fall_at_once
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        unlucky = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        engine.script = answer
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        assert not unlucky.done()
        assert (await unlucky).status_code == 503


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
    account_id: str,
    flow_server: RedisServer,
    tmp_path: Path,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
) -> None:
    fall = asyncio.Event()

    async def fall_in_mid_stream(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        # Who is to speak comes first, then four tokens.
        await response.write(EVENTS.partition(b"data: [DONE]")[0] * 5)
        await fall.wait()
        request.cut()
        return response

    engine.script = fall_in_mid_stream
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    gateway = start_gateway(upstream_url="", plans_file=plans)
    async with gateway, caller(gateway, api_key) as client:
        heard = Listening(client, PATH, STREAM)
        await heard.until(b"data: ", 5)
        prompt_tokens = await day_tokens(flow_server, account_id) - OUTPUT_TOKENS_MAX
        assert prompt_tokens > 0
        fall.set()
        await heard.done
        assert heard.status == 200
        assert b'"engine_gone"' in heard.text
        assert not other.requests
        # The engine could not say what it used: the prompt as it was counted, and what was relayed.
        await until_day_tokens(flow_server, account_id, prompt_tokens + 4)
        settled = r'floodgate_tokens_settled_total\{.*kind="%s"'
        assert await gateway.metric(settled % "prompt") == prompt_tokens
        assert await gateway.metric(settled % "output") == 4
        assert await gateway.metric(r'floodgate_engine_faults_total\{kind="broken"') == 1


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


@pytest.mark.parametrize("die", [dying_engine, dying_engine_in_prefill])
@pytest.mark.parametrize("leave", [PublishedReplicas.drain, PublishedReplicas.remove])
async def test_the_only_engine_dies_and_its_caller_waits_in_line_for_the_next(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    replicas: PublishedReplicas,
    die: Script,
    leave: Callable[[PublishedReplicas, str], None],
) -> None:
    """Its process answers for it, and leaves."""
    engine.script = die
    replicas.wanted = 1
    replicas.add("dies", engine.url)
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        asked = asyncio.create_task(client.post(PATH, json=STREAM))
        await engine.request(0)
        leave(replicas, "dies")
        await until_waiting(client, 1)
        replicas.add("next", other.url)
        assert (await asked).content.endswith(EVENTS)
        assert len(engine.requests) == 1


async def test_the_only_engine_fails_and_stays_and_its_caller_is_told(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, replicas: PublishedReplicas
) -> None:
    engine.script = dying_engine
    replicas.wanted = 1
    replicas.add("stays", engine.url)
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(PATH, json=STREAM)
        assert (found.status_code, found.json()["error"]["code"]) == (502, "engine_error")
        assert len(engine.requests) == 1


def nowhere() -> str:
    """Where a replica was that has been killed: no connection is taken."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("workers", [1, 2])
async def test_two_of_three_replicas_are_gone_and_every_caller_is_answered(
    start_gateway: Start,
    api_key: str,
    other: ScriptedEngine,
    replicas: PublishedReplicas,
    workers: int,
) -> None:
    for name in ("first", "second"):  # they are listed for five seconds more, with all slots free
        replicas.add(name, nowhere(), slots=8)
    replicas.add("works", other.url, slots=2)
    gateway = start_gateway(upstream_url="", workers=workers)
    async with gateway, caller(gateway, api_key) as client:
        for name in ("first", "second"):
            replicas.fall_silent(name)
        for _ in range(5):
            found = await asyncio.gather(*(client.post(PATH, json=STREAM) for _ in range(8)))
            assert {answered.status_code for answered in found} == {200}
        while await gateway.metric(r"floodgate_slots_held\{"):
            await asyncio.sleep(0.05)


async def test_all_replicas_are_gone_and_their_callers_wait_in_line(
    start_gateway: Start,
    api_key: str,
    other: ScriptedEngine,
    replicas: PublishedReplicas,
) -> None:
    first = ScriptedEngine()
    await first.start()
    replicas.wanted = 1
    replicas.add("first", first.url, slots=8)
    replicas.add("second", nowhere(), slots=8)
    unreachable = r'floodgate_engine_faults_total\{kind="unreachable"'
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        await first.stop()
        for name in ("first", "second"):
            replicas.fall_silent(name)
        asked = [asyncio.create_task(client.post(PATH, json=STREAM))]
        while await gateway.metric(unreachable) < 2:
            await asyncio.sleep(0.02)
        asked += [asyncio.create_task(client.post(PATH, json=STREAM)) for _ in range(2)]
        await until_waiting(client, 3)
        replicas.add("next", other.url)
        for answered in await asyncio.gather(*asked):
            assert answered.content.endswith(EVENTS)
        assert await gateway.metric(unreachable) == 2, "nobody has tried them again"


async def test_a_replica_that_took_no_connection_for_a_moment_is_asked_again(
    start_gateway: Start, api_key: str, replicas: PublishedReplicas
) -> None:
    before, after = ScriptedEngine(), ScriptedEngine()
    after.script = answer
    await before.start()
    replicas.wanted = 1
    replicas.add("alone", before.url)
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        await before.stop()
        asked = asyncio.create_task(client.post(PATH, json=STREAM))
        await until_waiting(client, 1)
        await after.start(int(before.url.rpartition(":")[2]))
        assert (await asked).content.endswith(EVENTS)
        await after.stop()


async def test_a_replica_that_falls_silent_under_a_request_is_given_up(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    pair: None,
    replicas: PublishedReplicas,
) -> None:
    """Its machine is gone: the connection stays open, and no byte will ever come."""
    engine.script = hang
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        asked = asyncio.create_task(client.post(PATH, json=STREAM))
        await engine.request(0)
        replicas.fall_silent("falls")
        found: httpx.Response = await asked
        assert found.content == EVENTS


async def test_one_life_holds_over_both_attempts(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    replicas: PublishedReplicas,
) -> None:
    """A caller of two replicas is not answered later than one who began in the middle of it."""
    life_s = 5.0
    fall = asyncio.Event()

    async def fall_when_told(request: EngineRequest) -> web.StreamResponse:
        await fall.wait()
        return await fall_in_prefill(request)

    engine.script, other.script = fall_when_told, hang
    replicas.add("falls", engine.url, slots=1)
    gateway = start_gateway(upstream_url="", stream_life_s_max=life_s)
    async with gateway, caller(gateway, api_key) as client:
        asked = asyncio.create_task(client.post(PATH, json=STREAM))
        await engine.request(0)
        await asyncio.sleep(life_s * 0.6)
        replicas.add("works", other.url, slots=2)
        later = asyncio.create_task(client.post(PATH, json=STREAM))
        await other.request(0)
        fall.set()
        found = await asked
        assert (found.status_code, found.json()["error"]["code"]) == (504, "stream_life_exceeded")
        assert len(other.requests) == 2, "it was on its way at another one"
        assert not later.done()
        assert (await later).status_code == 504


async def test_one_longest_wait_holds_over_both_attempts(
    start_gateway: Start,
    api_key: str,
    account_id: str,
    flow_server: RedisServer,
    tmp_path: Path,
    engine: ScriptedEngine,
    replicas: PublishedReplicas,
) -> None:
    """Who has waited before waits no longer for the second slot than is left of that."""
    wait_s_max = 6.0
    fall, first = asyncio.Event(), asyncio.Event()

    async def serve_one_and_fall(request: EngineRequest) -> web.StreamResponse:
        if not engine.requests[1:]:
            await first.wait()
            return await answer(request)
        await fall.wait()
        return await fall_in_prefill(request)

    engine.script = serve_one_and_fall
    replicas.wanted = 1
    replicas.add("falls", engine.url, slots=1)
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    gateway = start_gateway(upstream_url="", queue_wait_s_max=wait_s_max, plans_file=plans)
    async with gateway, caller(gateway, api_key) as client:
        before = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        asked = asyncio.create_task(client.post(PATH, json=CHAT))
        await until_waiting(client, 1)
        began_at = time.monotonic()
        while time.monotonic() < began_at + wait_s_max * 0.6:
            await until_waiting(client, 1)
        first.set()
        assert (await before).status_code == 200
        await engine.request(1)
        replicas.remove("falls")
        while await gateway.metric(r"floodgate_slots_capacity\{"):
            await asyncio.sleep(0.05)
        later = asyncio.create_task(client.post(PATH, json=CHAT))
        await until_waiting(client, 1)
        fall.set()
        found = await asked
        assert found.status_code == 503
        assert not later.done(), "who came later has its whole wait"
        assert (await later).status_code == 503
        await until_day_tokens(flow_server, account_id, USED_TOKENS)
