"""Two replicas on one machine: each has cores of its own, and both serve."""

import asyncio
import json
import os
import uuid
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas share one core"),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    folder = tmp_path_factory.mktemp("pair")
    running = RunningFloodgate(folder, replicas=2, kv_cache_gib=1, plans_file=write_plans(folder))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def pinned_cores(process: psutil.Process) -> set[int]:
    """The cores of those of its threads that may not run on every core."""
    every = os.sched_getaffinity(0)
    masks = [os.sched_getaffinity(thread.id) for thread in process.threads()]
    return set().union(*(mask for mask in masks if mask != every))


def processes_behind(running: RunningFloodgate, port: int) -> list[psutil.Process]:
    """The replica that listens there, and vLLM's engine and workers below it."""
    (replica,) = (
        process
        for process in running.processes()
        if any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in process.net_connections("tcp")
        )
    )
    return [replica, *replica.children(recursive=True)]


def test_replicas_share_no_pinned_core(pair: RunningFloodgate) -> None:
    ports = [int(replica.url.rpartition(":")[2]) for replica in pair.replicas()]
    first, second = (
        set().union(*(pinned_cores(process) for process in processes_behind(pair, port)))
        for port in ports
    )
    assert first
    assert second
    assert not first & second


async def test_both_replicas_serve(pair: RunningFloodgate) -> None:
    key = await asyncio.to_thread(pair.new_key)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "max_tokens": 20,
        "ignore_eos": True,
    }
    mine = [f"e2e-{uuid.uuid4()}" for _ in range(8)]
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=pair.url, headers=headers, timeout=120) as client:
        answers = await asyncio.gather(
            *(
                client.post("/v1/chat/completions", json=body, headers={"x-request-id": one})
                for one in mine
            )
        )
    assert [answer.status_code for answer in answers] == [200] * len(mine)
    log = pair.home / "logs" / "gateway.log"
    while not all(one in log.read_text() for one in mine):
        await asyncio.sleep(0.05)
    lines = [line for line in log.read_text().splitlines() if any(one in line for one in mine)]
    served_by = {json.loads(line)["replica"] for line in lines}
    assert served_by == {replica.replica_id for replica in pair.replicas()}
