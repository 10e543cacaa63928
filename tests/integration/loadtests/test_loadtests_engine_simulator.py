"""The engine simulator as its own process: what callers, operators and the gateway see of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from gateway.engines.replica_record import parse_record
from gateway.flow import redis_keys
from loadtests.errors import MeasurementError
from loadtests.stack.simulator_process import SimulatorProcess
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

# No test measures time: an answer of so many tokens is one that does not end by itself.
ENDLESS_TOKENS = 30_000


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    folder = tmp_path_factory.mktemp("simulator")
    with SimulatorProcess(folder, profile="instant", replicas=2) as running:
        yield running


@pytest.fixture
def simulator(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The shared simulator, well before and after each test."""
    yield process
    process.inject("restore")
    process.inject("clear")


@pytest.fixture
async def client(simulator: SimulatorProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.urls[0], timeout=30) as made:
        yield made


def chat(**changes: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Tell me about rivers."}]
    return {"model": "simulated", "messages": messages, "max_tokens": 5} | changes


async def until(condition: Callable[[], bool]) -> None:
    """Polls until the condition holds; the test's own limit is the deadline."""
    while not await asyncio.to_thread(condition):
        await asyncio.sleep(0.02)


async def events_of(client: httpx.AsyncClient, body: dict[str, object]) -> list[str]:
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in answer.aiter_lines()]
    return [line.removeprefix("data: ") for line in lines if line]


async def test_a_stream_has_every_token_its_usage_and_its_end(client: httpx.AsyncClient) -> None:
    body = chat(stream=True, ignore_eos=True, stream_options={"include_usage": True})
    *chunks, usage, done = await events_of(client, body)
    assert done == "[DONE]"
    assert json.loads(usage)["choices"] == []
    told = json.loads(usage)["usage"]
    assert told["completion_tokens"] == 5
    assert told["total_tokens"] == told["prompt_tokens"] + 5
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert sum(bool(choice["delta"]["content"]) for choice in choices) == 5
    assert choices[-1]["finish_reason"] == "length"


async def test_a_stream_without_usage_asked_for_has_none(client: httpx.AsyncClient) -> None:
    events = await events_of(client, chat(stream=True))
    assert not any("usage" in event for event in events)


async def test_each_choice_is_answered_and_counted(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/chat/completions", json=chat(n=3, ignore_eos=True))).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert all(len(choice["message"]["content"].split()) == 5 for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 15


async def test_completions_take_several_prompts(client: httpx.AsyncClient) -> None:
    body = {"model": "simulated", "prompt": [[1, 2, 3], [4]], "max_tokens": 2, "ignore_eos": True}
    answer = (await client.post("/v1/completions", json=body)).json()
    assert answer["object"] == "text_completion"
    assert [len(choice["text"].split()) for choice in answer["choices"]] == [2, 2]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


async def test_what_does_not_fit_the_context_is_refused_as_vllm_does(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/chat/completions", json=chat(max_tokens=40_000))
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "BadRequestError"
    assert "maximum context length" in answer.json()["error"]["message"]


async def test_the_other_paths_answer_as_vllms_do(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200
    (card,) = (await client.get("/v1/models")).json()["data"]
    assert (card["id"], card["max_model_len"]) == ("simulated", 32_768)
    metrics = (await client.get("/metrics")).text
    for name in ("num_requests_running", "kv_cache_usage_perc", "generation_tokens_total"):
        assert f'vllm:{name}{{engine="0",model_name="simulated"}}' in metrics
    assert (await client.get("/v1/none")).status_code == 404


@pytest.mark.parametrize("stream", [True, False])
async def test_hanging_up_frees_the_batch(
    simulator: SimulatorProcess, client: httpx.AsyncClient, stream: bool
) -> None:
    before = simulator.total("aborted")
    body = chat(stream=stream, ignore_eos=True, max_tokens=ENDLESS_TOKENS)
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
    await until(lambda: simulator.total("running") == 1)
    asking.cancel()
    await until(lambda: simulator.total("running") == 0)
    assert simulator.total("aborted") == before + 1
    assert simulator.total("kv_use") == 0
    assert simulator.total("requests_open") == 0


async def test_a_stalled_engine_says_nothing_until_it_goes_on(
    simulator: SimulatorProcess, client: httpx.AsyncClient
) -> None:
    simulator.inject("stall", [0])
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
    await until(lambda: simulator.total("requests_open") == 1)
    tokens = simulator.total("generation_tokens")
    # The other replica goes on, and /health keeps answering: as with a stopped engine process.
    answer = await client.post(f"{simulator.urls[1]}/v1/chat/completions", json=chat())
    assert answer.status_code == 200
    assert (await client.get("/health")).status_code == 200
    told = answer.json()["usage"]["completion_tokens"]
    assert simulator.total("generation_tokens") == tokens + told
    assert not asking.done()
    simulator.inject("clear")
    assert (await asking).status_code == 200


async def test_injected_errors_look_like_vllms(
    simulator: SimulatorProcess, client: httpx.AsyncClient
) -> None:
    simulator.inject("error", share=1.0)
    answer = await client.post("/v1/chat/completions", json=chat())
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "InternalServerError"
    simulator.inject("clear")
    assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200


async def test_a_cut_stream_breaks_off_after_its_tokens(
    simulator: SimulatorProcess, client: httpx.AsyncClient
) -> None:
    simulator.inject("cut", after_tokens=3)
    lines = []
    with pytest.raises(httpx.TransportError):
        async with client.stream(
            "POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=ENDLESS_TOKENS)
        ) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)  # noqa: PERF401 - what came before the cut must be kept
    assert not any("[DONE]" in line for line in lines)
    await until(lambda: simulator.total("running") == 0)


async def test_a_crash_breaks_answers_and_closes_the_port_until_it_is_restored(
    simulator: SimulatorProcess, client: httpx.AsyncClient
) -> None:
    body = chat(ignore_eos=True, max_tokens=ENDLESS_TOKENS)
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
    await until(lambda: simulator.total("running") == 1)
    simulator.inject("crash", [0])
    with pytest.raises(httpx.TransportError):
        await asking
    with pytest.raises(httpx.ConnectError):
        await client.get("/health")
    assert [replica["is_up"] for replica in simulator.stats()] == [False, True]
    assert simulator.total("running") == 0
    simulator.inject("restore", [0])
    assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200


def test_a_wrong_fault_command_is_refused_and_has_no_effect(simulator: SimulatorProcess) -> None:
    for kind, replicas, options in (
        ("explode", None, {}),
        ("stall", [2], {}),
        ("stall", [-1], {}),
        ("slow", None, {"factor": 0.0}),
        ("slow", None, {"share": 2.0}),
    ):
        with pytest.raises(MeasurementError, match="refused"):
            simulator.inject(kind, replicas, **options)


async def test_the_same_seed_gives_answers_of_the_same_lengths(tmp_path: Path) -> None:
    lengths = []
    for name in ("one", "two"):
        with SimulatorProcess(tmp_path / name, profile="instant") as simulator:
            async with httpx.AsyncClient(base_url=simulator.urls[0], timeout=30) as client:
                answers = [
                    await client.post("/v1/chat/completions", json=chat(max_tokens=2000))
                    for _ in range(4)
                ]
        lengths.append([answer.json()["usage"]["completion_tokens"] for answer in answers])
    assert lengths[0] == lengths[1]
    assert len(set(lengths[0])) > 1


async def test_answers_of_a_profile_with_a_spread_end_in_another_order_than_they_came(
    tmp_path: Path,
) -> None:
    ended: list[int] = []

    async def one(number: int, client: httpx.AsyncClient) -> None:
        await client.post("/v1/chat/completions", json=chat(ignore_eos=True))
        ended.append(number)

    with SimulatorProcess(tmp_path, profile="apart") as simulator:
        async with (
            httpx.AsyncClient(base_url=simulator.urls[0], timeout=30) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(8):
                group.create_task(one(number, client))
                while await asyncio.to_thread(simulator.total, "arrived") != number + 1:
                    await asyncio.sleep(0.02)
        assert simulator.total("finished") == 8
    assert sorted(ended) == list(range(8)) != ended


@pytest.fixture
async def published(
    tmp_path: Path, flow_server: RedisServer
) -> AsyncIterator[tuple[SimulatorProcess, Callable[[str], Awaitable[str | None]]]]:
    """A simulator that publishes, and a look at the record of a replica on the flow Redis."""
    flow = redis.Redis.from_url(flow_server.url, decode_responses=True)

    async def look(replica_id: str) -> str | None:
        key = redis_keys.replica_record_prefix("simulated") + replica_id
        found = await asyncio.to_thread(flow.get, key)
        assert not isinstance(found, bytes)
        return found

    with (
        flow,
        SimulatorProcess(
            tmp_path, profile="instant", replicas=2, slots=7, flow_url=flow_server.url
        ) as simulator,
    ):
        yield simulator, look


async def test_the_gateway_understands_the_records(
    published: tuple[SimulatorProcess, Callable[[str], Awaitable[str | None]]],
    flow_server: RedisServer,
) -> None:
    simulator, look = published
    while (text := await look("sim01")) is None:
        await asyncio.sleep(0.02)
    replica = parse_record(text)
    assert replica is not None
    assert (replica.model, replica.replica_id, replica.state) == ("simulated", "sim01", "running")
    assert (replica.url, replica.slots) == (simulator.urls[1], 7)
    assert replica.context_tokens_max == 32_768
    assert replica.endpoints == {"chat/completions", "completions"}
    with redis.Redis.from_url(flow_server.url, decode_responses=True) as flow:
        index = flow.zrange(redis_keys.replica_index("simulated"), 0, -1)
        assert index == ["sim00", "sim01"]
        assert flow.zscore(redis_keys.MODELS, "simulated") is not None


async def test_the_records_tell_tokens_a_second(
    published: tuple[SimulatorProcess, Callable[[str], Awaitable[str | None]]],
) -> None:
    simulator, look = published

    async def rate() -> float | None:
        replica = parse_record(await look("sim00") or "")
        return replica.engine.generation_tokens_per_s if replica else None

    while await rate() != 0:
        await asyncio.sleep(0.02)
    body = chat(stream=True, ignore_eos=True, max_tokens=ENDLESS_TOKENS)
    async with (
        httpx.AsyncClient(base_url=simulator.urls[0], timeout=30) as client,
        client.stream("POST", "/v1/chat/completions", json=body),
    ):
        while not await rate():
            await asyncio.sleep(0.02)


async def test_a_crashed_replica_falls_silent_and_comes_back_when_restored(
    published: tuple[SimulatorProcess, Callable[[str], Awaitable[str | None]]],
) -> None:
    simulator, look = published
    while await look("sim00") is None:
        await asyncio.sleep(0.02)
    simulator.inject("crash", [0])
    while await look("sim00") is not None:
        await asyncio.sleep(0.05)
    while await look("sim01") is None:
        await asyncio.sleep(0.02)
    simulator.inject("restore", [0])
    while await look("sim00") is None:
        await asyncio.sleep(0.02)


async def test_publishing_outlives_a_restart_of_redis(
    published: tuple[SimulatorProcess, Callable[[str], Awaitable[str | None]]],
    flow_server: RedisServer,
) -> None:
    simulator, look = published
    while await look("sim00") is None:
        await asyncio.sleep(0.02)
    flow_server.kill()
    async with httpx.AsyncClient(base_url=simulator.urls[0], timeout=30) as client:
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
    flow_server.start()
    while await look("sim00") is None:
        await asyncio.sleep(0.02)
