"""What vLLM is asked to do, read off vLLM's own metrics, and the work that hang-ups must free."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.running_floodgate import MODEL, STEP_TOKENS_MAX, RunningFloodgate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PATH = "/v1/chat/completions"


def chat(text: str = "Tell me a story.", **fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


LENGTHY = "Write a story of twenty chapters. Tell each chapter at length."
ENDED_BY_ITSELF = r'vllm:request_success_total\{[^}]*finished_reason="(?:stop|length)"[^}]*\}'
ENDLESS = chat(max_tokens=7000, ignore_eos=True)


@pytest.fixture
async def client(floodgate: RunningFloodgate, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    await floodgate.until_engine(running=0)
    async with httpx.AsyncClient(
        base_url=floodgate.url, headers={"authorization": f"Bearer {api_key}"}, timeout=120
    ) as made:
        yield made


async def test_prefixes_are_cached(client: httpx.AsyncClient, floodgate: RunningFloodgate) -> None:
    # A prompt of its own, so that no other test has filled the cache with it.
    prompt = f"{uuid.uuid4()} " + "The quick brown fox jumps over the lazy dog. " * 200
    before = floodgate.engine_metric("vllm:prefix_cache_hits_total")
    assert (await client.post(PATH, json=chat(prompt, max_tokens=1))).status_code == 200
    first = floodgate.engine_metric("vllm:prefix_cache_hits_total") - before
    answer = await client.post(PATH, json=chat(prompt, max_tokens=1))
    assert answer.status_code == 200, answer.text
    second = floodgate.engine_metric("vllm:prefix_cache_hits_total") - before - first
    prompt_tokens = answer.json()["usage"]["prompt_tokens"]
    # All but the last block of the prompt and what the chat template puts in front.
    assert second > 0.9 * prompt_tokens
    assert first < 0.2 * prompt_tokens


async def test_long_prompts_are_prefilled_in_chunks_beside_running_answers(
    client: httpx.AsyncClient, floodgate: RunningFloodgate
) -> None:
    """The engine computes at most 256 tokens a step here, so a prompt of more than two thousand
    takes many steps, and in each of them the answer that was running gets its next token."""
    running = asyncio.create_task(client.post(PATH, json=ENDLESS))
    await floodgate.until_engine(running=1)
    prompt = " ".join(str(uuid.uuid4()) for _ in range(120))
    before = floodgate.engine_metric("vllm:generation_tokens_total")
    computed_before = floodgate.engine_metric("vllm:request_prefill_kv_computed_tokens_sum")
    answer = await client.post(PATH, json=chat(prompt, max_tokens=1))
    generated = floodgate.engine_metric("vllm:generation_tokens_total") - before
    computed = floodgate.engine_metric("vllm:request_prefill_kv_computed_tokens_sum")
    running.cancel()
    await floodgate.until_engine(running=0)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 2048
    assert computed - computed_before > 2048
    assert generated >= 2048 // STEP_TOKENS_MAX


async def test_requests_join_a_running_batch(
    client: httpx.AsyncClient, floodgate: RunningFloodgate
) -> None:
    """Continuous batching: a short answer overtakes a long one that began before it."""
    long = asyncio.create_task(client.post(PATH, json=ENDLESS))
    await floodgate.until_engine(running=1)
    short = await client.post(PATH, json=chat(max_tokens=3))
    assert short.status_code == 200
    assert not long.done()
    assert floodgate.engine_metric("vllm:num_requests_running") == 1
    long.cancel()
    await floodgate.until_engine(running=0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_hanging_up_frees_running_and_queued_work_inside_vllm(
    client: httpx.AsyncClient, floodgate: RunningFloodgate, stream: bool
) -> None:
    async def ask() -> None:
        async with client.stream("POST", PATH, json={**ENDLESS, "stream": stream}) as answer:
            async for _ in answer.aiter_raw():
                pass

    calls = [asyncio.create_task(ask()) for _ in range(6)]
    await floodgate.until_engine(running=4, waiting=2)
    calls[5].cancel()
    calls[4].cancel()
    await floodgate.until_engine(running=4, waiting=0)
    for call in calls[:4]:
        call.cancel()
    await floodgate.until_engine(running=0)
    await asyncio.gather(*calls, return_exceptions=True)
    # The slots are free as well: all eight can be taken again.
    answers = await asyncio.gather(*(client.post(PATH, json=chat(max_tokens=1)) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("completions", {"prompt": "One day", "max_tokens": 7000, "ignore_eos": True}),
        ("responses", {"input": "Tell a story.", "max_output_tokens": 7000, "ignore_eos": True}),
        # Anthropic's API cannot ask to go on beyond the end: its answer is as long as it is, and
        # a sampled one may be short.
        (
            "messages",
            {
                "messages": [{"role": "user", "content": LENGTHY}],
                "max_tokens": 7000,
                "temperature": 0,
            },
        ),
    ],
)
async def test_hanging_up_on_each_endpoint_frees_the_work_inside_vllm(
    client: httpx.AsyncClient,
    floodgate: RunningFloodgate,
    endpoint: str,
    body: dict[str, object],
    stream: bool,
) -> None:
    came = asyncio.Event()

    async def ask() -> None:
        request = {"model": MODEL, **body, "stream": stream}
        async with client.stream("POST", f"/v1/{endpoint}", json=request) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for _ in answer.aiter_raw():
                came.set()

    ended = floodgate.engine_metric(ENDED_BY_ITSELF)
    call = asyncio.create_task(ask())
    await floodgate.until_engine(running=1)
    if stream:
        await came.wait()
    call.cancel()
    await floodgate.until_engine(running=0)
    assert call.cancelled()
    assert came.is_set() == stream
    assert floodgate.engine_metric(ENDED_BY_ITSELF) == ended


async def test_the_request_id_reaches_the_engine_and_comes_back(
    client: httpx.AsyncClient, floodgate: RunningFloodgate
) -> None:
    mine = f"e2e-{uuid.uuid4()}"
    answer = await client.post(PATH, json=chat(max_tokens=1), headers={"x-request-id": mine})
    assert answer.headers["x-request-id"] == mine
    assert mine in answer.json()["id"], "vLLM builds its own id from the one that it is given"
