"""Floodgate on a GPU: compiled kernels, CUDA graphs, slots and memory as on no processor.

docs/operations.md, "Accelerators", says what of it has run, and on which GPU.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from serving.hardware.accelerator import gpu_count
from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(gpu_count() == 0, reason="no GPU"),
]

# What vLLM batches on a GPU, and with the sixteenth more that stands by.
BATCHED = 256
SLOTS = BATCHED + BATCHED // 16
MEMORY_SHARE = 0.5
PATH = "/v1/chat/completions"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 16}


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    folder = tmp_path_factory.mktemp("gpu")
    running = RunningFloodgate(
        folder,
        accelerator="gpu",
        gpu_memory_utilization=MEMORY_SHARE,
        plans_file=write_plans(folder),
    )
    with running.started():
        yield running


@pytest.fixture(scope="module")
def headers(on_gpu: RunningFloodgate) -> dict[str, str]:
    return {"authorization": f"Bearer {on_gpu.new_key()}"}


def serving_log(on_gpu: RunningFloodgate) -> str:
    return (on_gpu.home / "logs" / "serving.log").read_text(errors="replace")


def memory_share_used() -> float:
    """Of the one GPU's memory, as the driver counts it."""
    query = ["--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=True)
    used, total = (float(part) for part in done.stdout.splitlines()[0].split(","))
    return used / total


def test_it_answers_with_compiled_kernels_and_cuda_graphs(
    on_gpu: RunningFloodgate, headers: dict[str, str]
) -> None:
    answer = httpx.post(on_gpu.url + PATH, json=CHAT, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    log = serving_log(on_gpu)
    assert "device_config=cuda" in log
    assert "enforce_eager=False" in log
    assert "Graph capturing finished" in log


def test_slots_and_the_share_of_memory_are_those_of_a_gpu(on_gpu: RunningFloodgate) -> None:
    (replica,) = on_gpu.replicas()
    assert replica.slots == SLOTS
    # Graphs and CUDA's own context, about 1 GiB, come on top of the share.
    assert MEMORY_SHARE * 0.8 < memory_share_used() < MEMORY_SHARE * 1.2


def test_a_stream_comes_in_many_events_and_ends_properly(
    on_gpu: RunningFloodgate, headers: dict[str, str]
) -> None:
    body = {**CHAT, "max_tokens": 32, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", on_gpu.url + PATH, json=body, headers=headers, timeout=60) as answer:
        events = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert len(events) > 8
    assert events[-1] == "data: [DONE]"
    assert not any("error" in json.loads(event[6:]) for event in events[:-1])


async def test_more_chats_than_slots_are_all_answered_whole(
    on_gpu: RunningFloodgate, headers: dict[str, str]
) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=on_gpu.url, headers=headers, timeout=120, limits=limits
    ) as client:

        async def chat(number: int) -> Any:
            messages = [{"role": "user", "content": f"Story number {number}."}]
            body = {**CHAT, "messages": messages, "max_tokens": 64, "ignore_eos": True}
            return (await client.post(PATH, json=body)).json()

        answers = await asyncio.gather(*(chat(number) for number in range(SLOTS + 64)))
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [64] * len(answers)


async def test_a_killed_engine_gives_its_memory_back_and_another_answers(
    on_gpu: RunningFloodgate, headers: dict[str, str]
) -> None:
    (before,) = on_gpu.replicas()
    (engine,) = engines(on_gpu)
    engine.kill()
    while before.replica_id in {replica.replica_id for replica in on_gpu.replicas()} or not any(
        replica.state == "running" for replica in on_gpu.replicas()
    ):
        await asyncio.sleep(0.5)
    async with httpx.AsyncClient(base_url=on_gpu.url, headers=headers, timeout=60) as client:
        answer = await client.post(PATH, json=CHAT)
    assert answer.status_code == 200, answer.text
    assert memory_share_used() < MEMORY_SHARE * 1.2


def engines(on_gpu: RunningFloodgate) -> list[psutil.Process]:
    """vLLM's engine processes of this run."""
    return [process for process in on_gpu.processes() if "EngineCore" in _words(process)]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
