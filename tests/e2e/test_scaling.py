"""Replicas that come and go with the line and with an operator's pin; nobody who asks is cut."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from deploy.model_records import read_models
from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(580),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas share one core"),
]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story."}]}
SHORT = {**CHAT, "max_tokens": 4}
LONG = {**CHAT, "max_tokens": 400, "ignore_eos": True, "stream": True}
PATH = "/v1/chat/completions"
# Ten times what a decision is to take: that is measured and printed, and this is what no busy
# machine explains.
DECIDED_S_MAX = 30.0


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    """One replica, which may become two, or none."""
    folder = tmp_path_factory.mktemp("elastic")
    running = RunningFloodgate(
        folder,
        replicas=1,
        replicas_min=0,
        replicas_max=2,
        replica_slots=2,
        kv_cache_gib=1,
        scale_up_wait_s=5,
        scale_down_after_s=10,
        scale_to_zero_after_s=10,
        flow_deadline_s=2.0,
        plans_file=write_plans(folder),
    )
    with running.started():
        yield running


@pytest.fixture
async def client(elastic: RunningFloodgate) -> AsyncIterator[httpx.AsyncClient]:
    async with elastic.client() as made:
        yield made


def scale(elastic: RunningFloodgate, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(elastic.run("scale", MODEL, *arguments, "--json"))
    return found


async def until(elastic: RunningFloodgate, **wanted: int) -> float:
    """Seconds until `floodgate scale` tells this."""
    began_at = time.monotonic()
    while True:
        found = await asyncio.to_thread(scale, elastic)
        if all(found[name] == value for name, value in wanted.items()):
            return time.monotonic() - began_at
        await asyncio.sleep(0.1)


async def until_decided(elastic: RunningFloodgate, replicas: int) -> float:
    """Seconds until Ray's controller wants so many, by the model's record."""
    began_at = time.monotonic()
    flow_url = elastic.state["flow_url"]
    async with asyncio.timeout(DECIDED_S_MAX):
        while [each.replicas_wanted for each in read_models(flow_url)] != [replicas]:
            await asyncio.sleep(0.05)
    return time.monotonic() - began_at


async def until_in_line(client: httpx.AsyncClient) -> None:
    while not (await client.get("/v1/queue")).json()["models"][0]["waiting"]:
        await asyncio.sleep(0.05)


async def read(answer: httpx.Response) -> str:
    return (await answer.aread()).decode()


async def test_a_pin_puts_a_model_to_sleep_and_whoever_asks_then_waits_in_line(
    elastic: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    async with client.stream("POST", PATH, json=LONG) as streaming:
        lines = streaming.aiter_lines()
        assert await anext(lines)
        await asyncio.to_thread(scale, elastic, "0")
        await until(elastic, wanted=0, pinned=0)
        rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]", "scaling down cuts no stream"
    await until(elastic, running=0)
    models = (await client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == [MODEL]
    report = (await client.get("/readyz")).json()
    assert report["engine"]["models"][MODEL]["state"] == "scaled_to_zero"

    asked = asyncio.create_task(client.post(PATH, json=SHORT))
    await until_in_line(client)
    await asyncio.to_thread(scale, elastic, "auto")
    took_s = await until_decided(elastic, 1)
    print(f"\ndecided to start a replica {took_s:.1f} s after the pin was taken back")
    assert (await asked).status_code == 200


async def test_the_line_brings_a_second_replica_and_its_end_takes_it_away(
    elastic: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    await until(elastic, running=1)
    crowd = [asyncio.create_task(client.post(PATH, json=LONG)) for _ in range(30)]
    await until_in_line(client)
    took_s = await until_decided(elastic, 2)
    print(f"\ndecided to start a second replica {took_s:.1f} s after the line began")
    answers = await asyncio.gather(*crowd)
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.text.rstrip().endswith("data: [DONE]") for answer in answers)
    await until(elastic, wanted=1)
    await until(elastic, wanted=0, running=0)
    asked = asyncio.create_task(client.post(PATH, json=SHORT))
    await until_in_line(client)
    took_s = await until_decided(elastic, 1)
    print(f"\ndecided to wake the model {took_s:.1f} s after the line began")
    assert (await asked).status_code == 200


async def test_an_operator_pins_more_and_then_less_while_people_stream(
    elastic: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    await asyncio.to_thread(scale, elastic, "2")
    await until(elastic, running=2)
    streams = [asyncio.create_task(client.post(PATH, json=LONG)) for _ in range(4)]
    while sum(replica.engine.running for replica in elastic.replicas()) < 4:
        await asyncio.sleep(0.05)
    await asyncio.to_thread(scale, elastic, "1")
    answers = await asyncio.gather(*streams)
    assert all(answer.text.rstrip().endswith("data: [DONE]") for answer in answers)
    await until(elastic, running=1, wanted=1)
    assert (await client.post(PATH, json=SHORT)).status_code == 200


def test_a_pin_beyond_the_bound_and_a_model_that_is_not_there_are_refused(
    elastic: RunningFloodgate,
) -> None:
    for arguments, words in (
        (("scale", MODEL, "3"), "FLOODGATE_REPLICAS_MAX"),
        (("scale", MODEL, "many"), "no number"),
        (("scale", "no-such-model", "1"), "No model"),
    ):
        with pytest.raises(AssertionError, match=words):
            elastic.run(*arguments)
