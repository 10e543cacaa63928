"""People's own clients while they wait in line: notices, the answer after them, a wait in vain.

The engine is scripted: the line moves when a test wants it to.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx
import openai
import pytest
from aiohttp import web

from tests.gateway_process import GatewayProcess
from tests.node_sdk import install_node_sdk, run_node_tests
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CHAT_EVENTS = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"served"}}]}'
    b"\n\ndata: [DONE]\n\n"
)
CHAT_ANSWER = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "served"}}],
}
MESSAGE_EVENTS = b"".join(
    b"event: %s\ndata: %s\n\n" % event
    for event in (
        (
            b"message_start",
            b'{"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
            b'"model":"scripted","content":[],"usage":{"input_tokens":1,"output_tokens":0}}}',
        ),
        (
            b"content_block_start",
            b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        ),
        (
            b"content_block_delta",
            b'{"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"served"}}',
        ),
        (b"content_block_stop", b'{"type":"content_block_stop","index":0}'),
        (b"message_stop", b'{"type":"message_stop"}'),
    )
)
ASK: Any = [{"role": "user", "content": "serve me"}]
HOLD = {"model": MODEL, "messages": [{"role": "user", "content": "hold the slot"}]}
SETTINGS = {"slots": 1, "queue_notice_stream_s": 0, "queue_notice_json_s": 0}
# Two of the worker's rounds, a second apart.
TOLD_WITHIN = timedelta(seconds=2.2)


class OneSlotLine:
    """Somebody holds the only slot; whoever waits gets it once they have been told to wait."""

    def __init__(self, gateway: GatewayProcess, api_key: str, engine: ScriptedEngine) -> None:
        self._client = httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=60
        )
        self._let_go = asyncio.Event()
        self._engine = engine
        engine.script = self._answer

    async def stand_still(self) -> None:
        """Nobody is served from now on."""
        held = len(self._engine.requests)
        self._holder = asyncio.create_task(self._client.post("/v1/chat/completions", json=HOLD))
        await self._engine.request(held)

    async def serve_who_waits(self) -> None:
        """One after the other, until cancelled."""
        while True:
            await self.stand_still()
            while not await self._somebody_was_told():
                await asyncio.sleep(0.05)
            self._let_go.set()
            await self._holder
            self._let_go.clear()

    async def close(self) -> None:
        self._let_go.set()
        await self._client.aclose()
        await asyncio.gather(self._holder, return_exceptions=True)

    async def _somebody_was_told(self) -> bool:
        answer = await self._client.get("/v1/queue")
        if answer.status_code != 200:  # the flow Redis did not answer in time
            return False
        (model,) = answer.json()["models"]
        since = [datetime.fromisoformat(ticket["waiting_since"]) for ticket in model["waiting"]]
        return bool(since) and datetime.now(UTC) - min(since) > TOLD_WITHIN

    async def _answer(self, request: EngineRequest) -> web.StreamResponse:
        if b"hold the slot" in request.body:
            await self._let_go.wait()
        if request.raw.path.endswith("/messages"):
            return await _stream(request, MESSAGE_EVENTS)
        if b'"stream":true' in request.body:
            return await _stream(request, CHAT_EVENTS)
        return web.json_response(CHAT_ANSWER)


async def _stream(request: EngineRequest, events: bytes) -> web.StreamResponse:
    response = await request.stream()
    await response.write(events)
    return response


@pytest.fixture
async def moving(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> AsyncIterator[str]:
    """The address of a gate whose line moves on once they were told who wait."""
    async with start_gateway(**SETTINGS) as gateway:
        line = OneSlotLine(gateway, api_key, engine)
        mover = asyncio.create_task(line.serve_who_waits())
        yield gateway.url
        mover.cancel()
        await asyncio.gather(mover, return_exceptions=True)
        await line.close()


@pytest.fixture
async def standing(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> AsyncIterator[str]:
    """The address of a gate whose line does not move, and who waits in it is told so."""
    async with start_gateway(**SETTINGS, queue_wait_s_max=6) as gateway:
        line = OneSlotLine(gateway, api_key, engine)
        await line.stand_still()
        yield gateway.url
        await line.close()


async def test_openais_python_sdk_reads_the_answer_after_the_notices(
    moving: str, api_key: str
) -> None:
    async with openai.AsyncOpenAI(base_url=moving + "/v1", api_key=api_key) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=ASK)
        assert whole.choices[0].message.content == "served"
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["served"]


async def test_openais_python_sdk_takes_a_wait_in_vain_for_an_error(
    standing: str, api_key: str
) -> None:
    url = standing + "/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=api_key, max_retries=0) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        with pytest.raises(openai.APIError) as told:
            async for _ in stream:
                pass
        assert told.value.code == "queue_timeout"
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(model=MODEL, messages=ASK)
        events = await client.responses.create(model=MODEL, input="serve me", stream=True)
        kinds = [event.type async for event in events]
        assert kinds == ["error"]


async def test_openais_python_sdk_comes_back_by_itself_when_it_was_turned_away(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> None:
    """A full line: 503 with Retry-After, and the SDK's own retry is served."""
    async with start_gateway(slots=1, queue_length_max=0) as gateway:
        held = OneSlotLine(gateway, api_key, engine)
        await held.stand_still()
        async with openai.AsyncOpenAI(
            base_url=gateway.url + "/v1", api_key=api_key, max_retries=5
        ) as client:
            asked = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=ASK))
            while await gateway.metric(r"floodgate_refused_total.*queue_full") < 1:
                await asyncio.sleep(0.02)
            await held.close()
            assert (await asked).choices[0].message.content == "served"


async def test_openais_node_sdk_comes_back_by_itself_when_it_was_turned_away(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> None:
    install_node_sdk()
    async with start_gateway(slots=1, queue_length_max=0) as gateway:
        held = OneSlotLine(gateway, api_key, engine)
        await held.stand_still()
        asked = asyncio.create_task(
            run_node_tests("turned_away.test.mjs", url=gateway.url, api_key=api_key, model=MODEL)
        )
        while await gateway.metric(r"floodgate_refused_total.*queue_full") < 1:
            await asyncio.sleep(0.02)
        await held.close()
        await asked


async def test_anthropics_python_sdk_waits_and_fails_as_it_should(
    moving: str, api_key: str
) -> None:
    async with anthropic.AsyncAnthropic(base_url=moving, api_key=api_key) as client:
        asked = client.messages.stream(model=MODEL, max_tokens=5, messages=ASK)
        async with asked as stream:
            assert [text async for text in stream.text_stream] == ["served"]


async def test_anthropics_python_sdk_takes_a_wait_in_vain_for_an_error(
    standing: str, api_key: str
) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=standing, api_key=api_key, max_retries=0
    ) as client:
        with pytest.raises(anthropic.APIStatusError) as told:
            async with client.messages.stream(model=MODEL, max_tokens=5, messages=ASK) as stream:
                async for _ in stream.text_stream:
                    pass
        assert "queue_timeout" in str(told.value.body)


async def test_openais_node_sdk_reads_the_answer_after_the_notices(
    moving: str, api_key: str
) -> None:
    install_node_sdk()
    await run_node_tests("served.test.mjs", url=moving, api_key=api_key, model=MODEL)


async def test_openais_node_sdk_takes_a_wait_in_vain_for_an_error(
    standing: str, api_key: str
) -> None:
    install_node_sdk()
    await run_node_tests("in_vain.test.mjs", url=standing, api_key=api_key, model=MODEL)
