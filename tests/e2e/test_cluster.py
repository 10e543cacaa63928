"""A Ray cluster of several nodes: set up from what the command prints, one of them lost.

The nodes share this machine and its model folder; a real cluster has both of its own.
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.engines.replica_record import Replica
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.ray_cluster import RayCluster
from tests.redis_server import RedisServer
from tests.running_floodgate import MODEL, published_replicas, shared_cache

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(580),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas share one core"),
]

CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "max_tokens": 8,
}
LONG = {**CHAT, "max_tokens": 600, "ignore_eos": True, "stream": True}
PATH = "/v1/chat/completions"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    with (
        RedisServer.ledger(tmp_path / "ledger") as ledger,
        RedisServer.flow(tmp_path / "f") as flow,
    ):
        yield ledger, flow


@pytest.fixture
def terms(servers: tuple[RedisServer, RedisServer], tmp_path: Path) -> dict[str, object]:
    """What gateway, nodes and commands have in common."""
    ledger, flow = servers
    return {
        "home": tmp_path / "home",
        "ledger_url": ledger.url,
        "flow_url": flow.url,
        "waitlist_secret": secrets.token_hex(32),
        "engine_secret": secrets.token_hex(16),
        "flow_deadline_s": 2.0,
        "plans_file": write_plans(tmp_path / "plans"),
    }


@pytest.fixture
def cluster(terms: dict[str, object]) -> Iterator[RayCluster]:
    # Ray's sockets lie in it, and their path must stay below 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="fg-cluster-"))
    cluster = RayCluster(
        folder,
        model=Path(shared_cache()) / "models" / MODEL,
        accelerator="cpu",
        replica_host="0.0.0.0",
        replicas=2,
        cpu_threads=1,
        cpu_binding="nobind",
        kv_cache_gib=1,
        replica_slots=4,
        **terms,
    )
    try:
        with cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def gateway(terms: dict[str, object], tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, **terms)
    yield gateway
    await asyncio.to_thread(gateway.stop)


def replicas(flow: RedisServer) -> dict[str, Replica]:
    """Address of its node -> the replica, of those that run."""
    return {
        _node_of(replica): replica
        for replica in published_replicas(flow.url)
        if replica.state == "running"
    }


async def until_on(flow: RedisServer, nodes: set[str]) -> None:
    while replicas(flow).keys() != nodes:
        await asyncio.sleep(0.2)


async def test_a_node_is_lost_and_another_joins(
    cluster: RayCluster,
    gateway: GatewayProcess,
    servers: tuple[RedisServer, RedisServer],
) -> None:
    _, flow = servers
    await asyncio.to_thread(cluster.start, "127.0.0.11", "127.0.0.12")
    await asyncio.to_thread(cluster.deploy)
    await until_on(flow, {"127.0.0.11", "127.0.0.12"})
    await gateway.start()
    async with _caller(cluster, gateway) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200

        streams = [asyncio.create_task(_text(client)) for _ in range(4)]
        while [each.engine.running for each in replicas(flow).values()] != [2, 2]:
            await asyncio.sleep(0.1)
        cluster.kill("127.0.0.12")
        killed_at = time.monotonic()
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        print(f"a node lost: next request served after {time.monotonic() - killed_at:.1f} s")
        texts = [(await stream).rstrip() for stream in streams]
        cut = [text for text in texts if not text.endswith("data: [DONE]")]
        assert len(cut) == 2, "those of the other node run on"
        assert all('"code":"engine_gone"' in text.replace(" ", "") for text in cut), cut
        await until_on(flow, {"127.0.0.11"})

        await asyncio.to_thread(cluster.add, "127.0.0.13")
        await until_on(flow, {"127.0.0.11", "127.0.0.13"})
        print(f"two replicas again after {time.monotonic() - killed_at:.0f} s")

        model = _scale(cluster)
        assert (model["running"], model["wanted"]) == (2, 2)
        cluster.floodgate("scale", MODEL, "1")
        while len(replicas(flow)) != 1:
            await asyncio.sleep(0.2)
        assert (await client.post(PATH, json=CHAT)).status_code == 200


async def test_a_changed_config_is_deployed_and_no_stream_is_cut(
    cluster: RayCluster,
    gateway: GatewayProcess,
    servers: tuple[RedisServer, RedisServer],
) -> None:
    """One replica, and a node to spare on which the next one starts before it goes."""
    _, flow = servers
    cluster.change(replicas=1)
    await asyncio.to_thread(cluster.start, "127.0.0.11", "127.0.0.12")
    await asyncio.to_thread(cluster.deploy)
    while len(replicas(flow)) != 1:
        await asyncio.sleep(0.2)
    (before,) = replicas(flow).values()
    await gateway.start()
    async with _caller(cluster, gateway) as client:
        has_changed = asyncio.Event()
        callers = [asyncio.create_task(_texts(client, has_changed)) for _ in range(before.slots)]
        while not replicas(flow)[_node_of(before)].engine.running:
            await asyncio.sleep(0.1)
        cluster.change(replica_slots=before.slots + 1, replicas_max=2)
        await asyncio.to_thread(cluster.deploy)
        deployed_at = time.monotonic()
        while {each.replica_id for each in replicas(flow).values()} & {before.replica_id}:
            await asyncio.sleep(0.2)
        has_changed.set()
        print(f"the new one alone runs after {time.monotonic() - deployed_at:.0f} s")
        texts = [text for caller in callers for text in await caller]
        assert all(text.endswith("data: [DONE]") for text in texts), texts
        print(f"{len(texts)} streams, none was cut")
        (after,) = replicas(flow).values()
        assert (after.slots, _scale(cluster)["max"]) == (before.slots + 1, 2)
        assert (await client.post(PATH, json=CHAT)).status_code == 200


async def test_a_start_that_takes_too_long_ends_itself_and_another_one_begins(
    cluster: RayCluster,
) -> None:
    """No process of ours looks after a cluster's starts."""
    cluster.change(replicas=1, start_s_max=8)  # less than vLLM takes
    await asyncio.to_thread(cluster.start, "127.0.0.11")
    await asyncio.to_thread(cluster.deploy)
    ended = re.compile(rf"(\S+) -- {MODEL}: this replica was not ready within 8 s")
    while len(set(ended.findall(await asyncio.to_thread(cluster.logs)))) < 2:
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def _caller(cluster: RayCluster, gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    """With a new key."""
    made = cluster.floodgate("invites", "create", "--count", "1", "--json")
    code = re.search(r"fgi-[0-9A-Za-z-]+", made)
    assert code is not None, made
    async with httpx.AsyncClient(base_url=gateway.url, timeout=300) as client:
        address = {"code": code.group(), "email": "somebody@example.com"}
        redeemed = await client.post("/invites/redeem", json=address)
        client.headers["authorization"] = f"Bearer {redeemed.json()['api_key']}"
        yield client


def _scale(cluster: RayCluster) -> dict[str, Any]:
    """What `floodgate scale` says of the one model."""
    shown = json.loads(cluster.floodgate("scale", "--json"))
    (model,) = shown if isinstance(shown, list) else [shown]
    found: dict[str, Any] = model
    return found


def _node_of(replica: Replica) -> str:
    return urlsplit(replica.url).hostname or ""


async def _texts(client: httpx.AsyncClient, enough: asyncio.Event) -> list[str]:
    """One stream after the other."""
    texts = []
    while not enough.is_set():
        texts.append((await _text(client)).rstrip())
    return texts


async def _text(client: httpx.AsyncClient) -> str:
    async with client.stream("POST", PATH, json=LONG) as answer:
        return "".join([text async for text in answer.aiter_text()])
