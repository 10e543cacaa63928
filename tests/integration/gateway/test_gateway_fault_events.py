"""vLLM tells of its engine's death inside a stream, under status 200.

Its HTTP server outlives the engine: who streams gets an event, who does not gets status 500.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.gateway_callers import caller, day_tokens, until_day_tokens
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, Script, ScriptedEngine

pytestmark = pytest.mark.integration

OUTPUT_TOKENS_MAX = 5
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
SAYS_HELLO = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, object]] = {
    CHAT: {"messages": SAYS_HELLO, "max_tokens": OUTPUT_TOKENS_MAX},
    COMPLETIONS: {"prompt": "hello", "max_tokens": OUTPUT_TOKENS_MAX},
    RESPONSES: {"input": "hello", "max_output_tokens": OUTPUT_TOKENS_MAX},
    MESSAGES: {"messages": SAYS_HELLO, "max_tokens": OUTPUT_TOKENS_MAX},
}

# As vLLM 0.29 writes them. Messages read the chat's events, and tell of one that is none.
DEATH = (
    b'data: {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for '
    b'the root cause.", "type": "InternalServerError", "param": null, "code": 500}}\n\n'
)
DONE = b"data: [DONE]\n\n"
NO_CHUNK = (
    b'event: error\ndata: {"type":"error","error":{"type":"internal_error","message":"2 validation '
    b"errors for ChatCompletionStreamResponse\\nmodel\\n  Field required [type=missing, "
    b"input_value={'error': {'message': 'En...am': None, 'code': %d}}, input_type=dict]\"}}\n\n"
)
CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"tools":[]}}\n\n'
    b'event: response.in_progress\ndata: {"type":"response.in_progress","response":{}}\n\n'
)
DEATHS = {
    CHAT: DEATH + DONE,
    COMPLETIONS: DEATH + DONE,
    RESPONSES: CREATED,  # and then it breaks off
    MESSAGES: NO_CHUNK % 500,
}
TOKENS = {
    CHAT: b'data: {"choices":[{"delta":{"content":"error"}}]}\n\n',
    COMPLETIONS: b'data: {"choices":[{"text":"{\\"error\\": {\\"code\\": 500}}"}]}\n\n',
    RESPONSES: b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    b'"delta":"event: error"}\n\n',
    MESSAGES: b'event: content_block_delta\ndata: {"type":"content_block_delta",'
    b'"delta":{"type":"text_delta","text":"event: error"}}\n\n',
}
ENDS = {
    CHAT: DONE,
    COMPLETIONS: DONE,
    RESPONSES: b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    MESSAGES: b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}
REFUSALS = {
    CHAT: b'data: {"error": {"message": "The grammar does not compile.", "type": '
    b'"BadRequestError", "param": null, "code": 400}}\n\n' + DONE,
    MESSAGES: NO_CHUNK % 400,
}
Start = Callable[..., GatewayProcess]


def path_of(request: EngineRequest) -> str:
    return request.raw.path


async def answer(request: EngineRequest) -> web.StreamResponse:
    response = await request.stream()
    path = path_of(request)
    begin = CREATED if path == RESPONSES else b""
    await response.write(begin + TOKENS[path] + ENDS[path])
    return response


async def die_in_prefill(request: EngineRequest, *, piece_bytes: int = 1024) -> web.StreamResponse:
    response = await request.stream()
    death = DEATHS[path_of(request)]
    for at in range(0, len(death), piece_bytes):
        await response.write(death[at : at + piece_bytes])
    if path_of(request) == RESPONSES:
        request.cut()
    return response


async def die_in_prefill_bit_by_bit(request: EngineRequest) -> web.StreamResponse:
    """Its event comes in pieces."""
    return await die_in_prefill(request, piece_bytes=40)


@pytest.fixture
async def other() -> AsyncIterator[ScriptedEngine]:
    """The replica that works."""
    async with ScriptedEngine() as running:
        running.script = answer
        yield running


@pytest.fixture
def pair(replicas: PublishedReplicas, engine: ScriptedEngine, other: ScriptedEngine) -> None:
    """One whose engine dies, which is chosen first, and the other."""
    replicas.add("dies", engine.url, slots=8)
    replicas.add("works", other.url, slots=1)


def stream(path: str) -> dict[str, object]:
    return {"model": MODEL, "stream": True, **BODIES[path]}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("die", [die_in_prefill, die_in_prefill_bit_by_bit])
async def test_an_engine_that_dies_before_its_first_token_costs_nobody_anything(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
    path: str,
    die: Script,
) -> None:
    engine.script = die
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(path, json=stream(path))
        assert found.status_code == 200
        assert found.content.endswith(TOKENS[path] + ENDS[path])
        assert found.content.count(b"response.created") == (2 if path == RESPONSES else 0)
        assert b"EngineCore" not in found.content
        assert (len(engine.requests), len(other.requests)) == (1, 1)
        kind = "broken" if path == RESPONSES else "status"
        assert await gateway.metric(rf'floodgate_engine_faults_total\{{kind="{kind}"') == 1
        assert await gateway.metric(r"floodgate_admitted_total\{") == 1
        while await gateway.metric(r"floodgate_slots_held\{"):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", BODIES)
async def test_an_engine_that_dies_under_an_answer_ends_it_in_our_words(
    start_gateway: Start,
    api_key: str,
    account_id: str,
    flow_server: RedisServer,
    tmp_path: Path,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
    path: str,
) -> None:
    async def die_in_decode(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        begin = CREATED if path == RESPONSES else b""
        await response.write(begin + TOKENS[path] * 4 + DEATHS[path].removeprefix(CREATED))
        if path == RESPONSES:
            request.cut()
        return response

    engine.script = die_in_decode
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    gateway = start_gateway(upstream_url="", plans_file=plans)
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(path, json=stream(path))
        assert found.status_code == 200
        assert found.content.count(TOKENS[path]) == 4
        assert b'"engine_gone"' in found.content
        assert b"EngineCore" not in found.content
        assert b"validation" not in found.content
        assert b"[DONE]" not in found.content
        assert not other.requests
        assert await gateway.metric(r'floodgate_engine_faults_total\{kind="broken"') == 1
        settled = r'floodgate_tokens_settled_total\{.*kind="%s"'
        while not (output := await gateway.metric(settled % "output")):
            await asyncio.sleep(0.05)
        assert output <= 4
        prompt = await gateway.metric(settled % "prompt")
        await until_day_tokens(flow_server, account_id, int(prompt + output))


@pytest.mark.parametrize("path", REFUSALS)
async def test_what_is_the_callers_own_fault_passes_as_it_is(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    other: ScriptedEngine,
    pair: None,
    path: str,
) -> None:
    async def refuse(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(REFUSALS[path])
        return response

    engine.script = refuse
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        found = await client.post(path, json=stream(path))
        assert (found.status_code, found.content) == (200, REFUSALS[path])
        assert not other.requests
        assert await gateway.metric(r"floodgate_engine_faults_total\{") == 0


async def test_an_upstream_of_somebody_else_is_held_to_the_same(
    start_gateway: Start,
    api_key: str,
    account_id: str,
    flow_server: RedisServer,
    tmp_path: Path,
    engine: ScriptedEngine,
) -> None:
    engine.script = die_in_prefill
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    async with start_gateway(plans_file=plans) as gateway, caller(gateway, api_key) as client:
        found = await client.post(CHAT, json=stream(CHAT))
        assert (found.status_code, found.json()["error"]["code"]) == (502, "engine_error")
        await until_day_tokens(flow_server, account_id, 0)
        assert await day_tokens(flow_server, account_id) == 0
