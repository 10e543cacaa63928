"""A changed config on a Ray cluster that runs, through `serve deploy`, with tiny replicas."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.free_ports import free_port
from tests.ray_cluster import RayCluster
from tests.redis_server import RedisServer
from tests.tiny_replica import build
from tests.tiny_serving import TinyReplica, stream, tiny_replicas

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[4]
BUILD = f"{build.__module__}:{build.__name__}"
# Nodes of one machine share its ports: each replica takes the next one.
PORTS = 10
# Ray gives five seconds to any replica that is to go.
ANSWER_S = 15
# Ten times what a start takes that ends.
START_S_MAX = 20


@pytest.fixture
def port_min() -> int:
    return free_port()


@pytest.fixture
def cluster(
    flow_server: RedisServer, port_min: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RayCluster]:
    # Ray's workers import the replica from here.
    path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    # Ray's sockets lie in it, and their path must stay below 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="fg-cluster-"))
    cluster = RayCluster(
        folder,
        home=tmp_path,
        model=tmp_path / "tiny",
        accelerator="cpu",
        replica_host="0.0.0.0",
        replica_port_min=port_min,
        cpu_threads=1,
        replica_slots=4,
        flow_url=flow_server.url,
        engine_secret="0123456789abcdef",
    )
    try:
        with cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def until_slots(port_min: int, *wanted: int) -> list[TinyReplica]:
    """Until exactly such replicas answer."""
    while True:
        found = await asyncio.to_thread(tiny_replicas, range(port_min, port_min + PORTS))
        if sorted(each.slots for each in found) == sorted(wanted):
            return found
        await asyncio.sleep(0.1)


async def test_a_changed_config_is_deployed_and_no_stream_is_cut(
    cluster: RayCluster, port_min: int, tmp_path: Path
) -> None:
    await asyncio.to_thread(cluster.start, "127.0.0.11", "127.0.0.12")
    await asyncio.to_thread(cluster.deploy, build=BUILD)
    (before,) = await until_slots(port_min, 4)
    text = await stream(before.port)

    cluster.change(replica_slots=5, replicas_max=2)
    await asyncio.to_thread(cluster.deploy, build=BUILD)
    await until_slots(port_min, 4, 5)
    while not all(each.drains == (each.slots == 4) for each in await until_slots(port_min, 4, 5)):
        await asyncio.sleep(0.1)
    await asyncio.sleep(ANSWER_S)
    assert not text.done(), await text
    (tmp_path / "let-go").touch()
    assert (await text).rstrip("0\r\n").endswith("whole")
    (after,) = await until_slots(port_min, 5)
    assert after.pid != before.pid


@pytest.mark.long
async def test_a_replica_that_hangs_as_it_starts_is_ended_without_anybody_who_watches(
    cluster: RayCluster, port_min: int, tmp_path: Path
) -> None:
    """The first one serves and is killed, the second one hangs, the third one serves again."""
    model = tmp_path / "stuck"
    model.mkdir()
    cluster.change(model=model, start_s_max=START_S_MAX)
    await asyncio.to_thread(cluster.start, "127.0.0.11")
    await asyncio.to_thread(cluster.deploy, build=BUILD)
    (first,) = await until_slots(port_min, 4)
    psutil.Process(first.pid).kill()
    starts = model / "starts"
    while len(starts.read_text().splitlines()) < 3:
        await asyncio.sleep(0.1)
    (third,) = await until_slots(port_min, 4)
    _, stuck, _ = map(int, starts.read_text().splitlines())
    assert third.pid not in (first.pid, stuck)
    assert not psutil.pid_exists(stuck)
