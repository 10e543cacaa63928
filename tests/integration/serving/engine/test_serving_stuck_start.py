"""A replica whose start never ends, on real Ray Serve, without vLLM."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.redis_server import RedisServer
from tests.tiny_serving import TinyServing

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(120)]

# Ten times what a start takes that ends.
START_S_MAX = 20


@pytest.fixture
def serving(flow_server: RedisServer, tmp_path: Path) -> Iterator[TinyServing]:
    models = {"a": {"model": "stuck", "replica_slots": 4}}
    started = TinyServing(tmp_path, flow_server.url, models, start_s_max=START_S_MAX)
    try:
        yield started
    finally:
        started.stop()


async def test_a_replacement_that_hangs_as_it_starts_is_ended_and_another_one_serves(
    serving: TinyServing, tmp_path: Path
) -> None:
    (first,) = await serving.until_replicas(("stuck", 4))
    await serving.until_told("ready")
    psutil.Process(first.pid).kill()
    await serving.until_told("a: 0 of 1 replicas running")
    starts = tmp_path / "stuck" / "starts"
    while len(starts.read_text().splitlines()) < 2:
        await asyncio.sleep(0.1)
    stuck = int(starts.read_text().splitlines()[1])
    assert serving.replicas() == []
    await serving.until_told(f"was not ready within {START_S_MAX} s (FLOODGATE_START_S_MAX)")
    (third,) = await serving.until_replicas(("stuck", 4))
    assert third.pid not in (first.pid, stuck)
    assert not psutil.pid_exists(stuck)
