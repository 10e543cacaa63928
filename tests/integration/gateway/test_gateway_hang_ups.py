"""A caller hangs up within its answer: it is charged with the prompt and what was passed on."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.limits.token_count import TokenCounter
from gateway.request.request_policy import view_request
from tests.gateway_callers import (
    Listening,
    caller,
    day_tokens,
    until_day_tokens,
    until_usage,
)
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.prompts_with_tools import endpoint_of
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

Start = Callable[..., GatewayProcess]
MESSAGES = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": MESSAGES, "max_tokens": 500},
    "completions": {"prompt": "hello", "max_tokens": 500},
    "responses": {"input": "hello", "max_output_tokens": 500},
    "messages": {"messages": MESSAGES, "max_tokens": 500},
}
# What comes before the first event with output, and one with output.
EVENTS = {
    "chat/completions": (
        [b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'],
        b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n',
    ),
    "completions": ([], b'data: {"choices":[{"index":0,"text":"hi"}]}\n\n'),
    "responses": (
        [b'event: response.%d\ndata: {"type":"response"}\n\n' % n for n in range(4)],
        b'event: response.output_text.delta\ndata: {"delta":"hi"}\n\n',
    ),
    "messages": (
        [b'event: m%d\ndata: {"type":"m"}\n\n' % n for n in range(2)],
        b'event: content_block_delta\ndata: {"delta":{"text":"hi"}}\n\n',
    ),
}


def body_of(endpoint: str) -> dict[str, Any]:
    return {"model": MODEL, "stream": True, **BODIES[endpoint]}


async def counted_prompt(endpoint: str) -> int:
    """As the gateway counts it: there is no tokenizer here."""
    view = view_request(endpoint_of(endpoint), orjson.dumps(body_of(endpoint)))
    return await TokenCounter(lambda _: "").count(view)


@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("endpoint", BODIES)
async def test_a_stream_costs_the_prompt_and_one_token_for_each_event(
    start_gateway: Start,
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
    endpoint: str,
    tokens: int,
) -> None:
    before, event = EVENTS[endpoint]

    async def begin(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        for each in [*before, *[event] * tokens]:
            await response.write(each)
        return await request.wait_until_gone()

    engine.script = begin
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    prompt = await counted_prompt(endpoint)
    async with start_gateway(plans_file=plans) as gateway, caller(gateway, api_key) as client:
        listening = Listening(client, f"/v1/{endpoint}", body_of(endpoint))
        await listening.until(event, tokens)
        assert await day_tokens(flow_server, account_id) == prompt + 500, "as it was reserved"
        listening.done.cancel()
        await until_day_tokens(flow_server, account_id, prompt + tokens)
        days = await until_usage(client)
        used = {"requests": 1, "prompt_tokens": prompt, "output_tokens": tokens}
        assert days[0]["models"] == {MODEL: used}


async def test_a_whole_answer_that_was_not_waited_for_costs_the_prompt(
    start_gateway: Start,
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    engine.script = EngineRequest.wait_until_gone
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    body = {**body_of("chat/completions"), "stream": False}
    prompt = await counted_prompt("chat/completions")
    async with start_gateway(plans_file=plans) as gateway, caller(gateway, api_key) as client:
        call = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await engine.request(0)
        call.cancel()
        await until_day_tokens(flow_server, account_id, prompt)


@pytest.mark.parametrize("shown", [False, True], ids=["hidden", "asked for"])
async def test_of_vllm_a_stream_costs_the_tokens_that_came_however_few_events_they_made(
    start_gateway: Start,
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    replicas: PublishedReplicas,
    tmp_path: Path,
    shown: bool,
) -> None:
    """vLLM puts tokens together where its own loop is busy."""

    async def begin(request: EngineRequest) -> web.StreamResponse:
        asked = {"include_usage": True, "continuous_usage_stats": True}
        assert orjson.loads(request.body)["stream_options"] == asked
        response = await request.stream()
        for text, tokens in ((b"", 0), (b"one two three", 3), (b" to eleven", 11)):
            await response.write(
                b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],'
                b'"usage":{"prompt_tokens":37,"completion_tokens":%d}}\n\n' % (text, tokens)
            )
        return await request.wait_until_gone()

    engine.script = begin
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    asked = {"include_usage": True, "continuous_usage_stats": True}
    body = body_of("chat/completions") | ({"stream_options": asked} if shown else {})
    replicas.add("one", engine.url)
    async with (
        start_gateway(upstream_url="", plans_file=plans) as gateway,
        caller(gateway, api_key) as client,
    ):
        listening = Listening(client, "/v1/chat/completions", body)
        await listening.until(b" to eleven")
        await listening.until(b"}\n\n", 3)
        listening.done.cancel()
        await asyncio.gather(listening.done, return_exceptions=True)
        assert (b"usage" in listening.text) is shown
        await until_day_tokens(flow_server, account_id, 37 + 11)
