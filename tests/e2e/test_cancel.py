"""Hanging up in each state, streaming or not: place, slot, tokens and vLLM's work are freed.

How soon is measured by `python -m loadtests.bench hang-up`; here it has to happen at all.
"""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PATH = "/v1/chat/completions"
# As many as may run at once; four of them run inside vLLM and four wait there.
SLOTS = 8
# The count of a prompt may be so much above the engine's.
PROMPT_MARGIN = 60
SETTLED = r"floodgate_tokens_settled_total\{"


class Caller:
    """One account's requests, which it may leave."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.pieces = 0
        self.tokens = 0

    def ask(self, text: str, *, stream: bool) -> "asyncio.Task[None]":
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 500,
            "ignore_eos": True,
            "stream": stream,
        }
        return asyncio.create_task(self._read(body))

    async def waiting(self) -> int:
        while (answer := await self._client.get("/v1/queue")).status_code != 200:
            await asyncio.sleep(0.05)  # the flow Redis was slower than the gateway waits
        (model,) = answer.json()["models"]
        return len(model["waiting"])

    async def prompt_tokens(self, text: str) -> int:
        """What vLLM makes of it."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        usage = (await self._client.post(PATH, json=body)).json()["usage"]
        return int(usage["prompt_tokens"])

    async def _read(self, body: dict[str, object]) -> None:
        headers = {"x-floodgate-notices": "off"}
        async with self._client.stream("POST", PATH, json=body, headers=headers) as answer:
            async for piece in answer.aiter_raw():
                self.pieces += 1
                # At least one each; the first event holds the role alone.
                self.tokens += piece.count(b'"content":') - piece.count(b'"role":')


@pytest.fixture
async def caller(floodgate: RunningFloodgate, api_key: str) -> AsyncIterator[Caller]:
    await floodgate.until_engine(running=0)
    headers = {"authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(base_url=floodgate.url, headers=headers, timeout=120) as client:
        yield Caller(client)


async def metric(floodgate: RunningFloodgate, pattern: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(floodgate.url + "/metrics")).text
    lines = [line for line in text.splitlines() if re.match(pattern, line)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def leave(call: "asyncio.Task[None]", floodgate: RunningFloodgate) -> None:
    """Hangs up, and waits until nothing of the request is left in the gate and in vLLM."""
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await floodgate.until_engine(running=0)
    while await metric(floodgate, r"floodgate_slots_held\{"):
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_in_line(caller: Caller, floodgate: RunningFloodgate, stream: bool) -> None:
    running = [caller.ask("Tell me a story.", stream=True) for _ in range(SLOTS)]
    await floodgate.until_engine(running=4, waiting=4)
    call = caller.ask("I will not wait for this.", stream=stream)
    while await caller.waiting() != 1:
        await asyncio.sleep(0.02)
    settled = await metric(floodgate, SETTLED)
    call.cancel()
    while await caller.waiting() != 0:
        await asyncio.sleep(0.02)
    assert await metric(floodgate, SETTLED) == settled, "it cost nothing"
    for other in running[:-1]:
        other.cancel()
    await leave(running[-1], floodgate)
    await asyncio.gather(*running, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_in_prefill(caller: Caller, floodgate: RunningFloodgate, stream: bool) -> None:
    """A prompt of some 6,000 tokens, of which vLLM computes 256 a step here."""
    prompt = " ".join(str(uuid.uuid4()) for _ in range(230))
    settled = await metric(floodgate, SETTLED)
    generated = floodgate.engine_metric("vllm:generation_tokens_total")
    call = caller.ask(prompt, stream=stream)
    await floodgate.until_engine(running=1)
    await leave(call, floodgate)
    assert floodgate.engine_metric("vllm:generation_tokens_total") == generated
    assert caller.pieces == 0
    while await metric(floodgate, SETTLED) == settled:
        await asyncio.sleep(0.05)
    assert await metric(floodgate, SETTLED) - settled > 4000, "the prompt was computed for it"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_while_tokens_come(caller: Caller, floodgate: RunningFloodgate, stream: bool) -> None:
    before = await metric(floodgate, SETTLED)
    prompt = await caller.prompt_tokens("Tell me a story.")
    while await metric(floodgate, SETTLED) < before + prompt + 1:
        await asyncio.sleep(0.05)
    settled = await metric(floodgate, SETTLED)
    generated = floodgate.engine_metric("vllm:generation_tokens_total")
    call = caller.ask("Tell me a story.", stream=stream)
    while floodgate.engine_metric("vllm:generation_tokens_total") < generated + 5:
        await asyncio.sleep(0.02)
    while stream and caller.pieces < 5:
        await asyncio.sleep(0.02)
    await leave(call, floodgate)
    assert caller.pieces > 0 if stream else caller.pieces == 0
    while await metric(floodgate, SETTLED) == settled:
        await asyncio.sleep(0.05)
    charged = await metric(floodgate, SETTLED) - settled
    if stream:
        made = floodgate.engine_metric("vllm:generation_tokens_total") - generated
        assert prompt + caller.tokens <= charged <= prompt + made
    else:
        assert prompt <= charged <= prompt + PROMPT_MARGIN, "nothing of the answer was passed on"
