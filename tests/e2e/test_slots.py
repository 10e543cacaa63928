"""Slots that follow what a real engine can run, and a drain that awaits what is inside it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(580)]

PATH = "/v1/chat/completions"
CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "ignore_eos": True,
}
# With their prompts of 35 tokens: one block of the cache (128 tokens), and three.
SHORT = {**CHAT, "max_tokens": 60}
LONG = {**CHAT, "max_tokens": 230}
SLOTS, SLOTS_MAX = 2, 8
# 12 blocks of 128 tokens of 22.5 KiB, of which vLLM keeps one: eight short chats fill two thirds,
# eight long ones need 24.
KV_CACHE_GIB = 12 * 128 * 22.5 / 2**20


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    """Two slots that may become eight, over a KV cache too small for eight long chats."""
    folder = tmp_path_factory.mktemp("cramped")
    running = RunningFloodgate(
        folder,
        replica_slots=SLOTS,
        replica_slots_max=SLOTS_MAX,
        context_tokens_max=512,
        kv_cache_gib=KV_CACHE_GIB,
        flow_deadline_s=2.0,
        plans_file=write_plans(folder),
    )
    with running.started():
        yield running


@pytest.fixture
async def client(cramped: RunningFloodgate) -> AsyncIterator[httpx.AsyncClient]:
    async with cramped.client() as made:
        yield made


async def slots(cramped: RunningFloodgate) -> int:
    (replica,) = await asyncio.to_thread(cramped.replicas)
    return replica.slots


async def until_slots(cramped: RunningFloodgate, wanted: range) -> None:
    while await slots(cramped) not in wanted:
        await asyncio.sleep(0.2)


async def test_slots_rise_while_the_line_waits_and_fall_when_vllm_preempts(
    cramped: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    assert await slots(cramped) == SLOTS
    has_risen = asyncio.Event()

    async def chat_on() -> None:
        while not has_risen.is_set():
            (await client.post(PATH, json=SHORT)).raise_for_status()

    async with asyncio.TaskGroup() as callers:
        for _ in range(SLOTS_MAX + 4):
            callers.create_task(chat_on())
        await until_slots(cramped, range(SLOTS_MAX, SLOTS_MAX + 1))
        has_risen.set()
    assert cramped.engine_metric("vllm:num_preemptions_total") == 0

    longs = [asyncio.create_task(client.post(PATH, json=LONG)) for _ in range(SLOTS_MAX)]
    await until_slots(cramped, range(SLOTS_MAX // 2 + 1))
    for answer in await asyncio.gather(*longs):
        assert answer.status_code == 200, "those who were preempted are answered in the end"
        assert answer.json()["usage"]["completion_tokens"] == LONG["max_tokens"]
    assert cramped.engine_metric("vllm:num_preemptions_total") > 0


async def test_a_drain_awaits_a_request_that_is_in_its_first_step(
    cramped: RunningFloodgate,
) -> None:
    """Last of this file: a replica that has drained takes no more."""
    words = " ".join(f"word{number}" for number in range(90))
    chat = {**SHORT, "messages": [{"role": "user", "content": words}]}
    (replica,) = cramped.replicas()
    headers = {"x-floodgate-engine-secret": cramped.engine_secret}
    async with httpx.AsyncClient(base_url=replica.url, headers=headers, timeout=120) as engine:

        async def state() -> dict[str, Any]:
            found: dict[str, Any] = (await engine.get("/-/replica")).json()
            return found

        asked = asyncio.create_task(engine.post(PATH, json=chat))
        while not (await state())["in_flight"]:
            await asyncio.sleep(0)
        drained = await engine.post("/-/drain?abort=false&within_s=100")
        assert drained.json() == {"in_flight": 0}
        answer = await asked
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["completion_tokens"] == SHORT["max_tokens"]
