"""The leading worker is killed while it lets a batch in; the other one completes it, exactly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import psutil
import pytest
import redis

from tests.gateway_process import GatewayProcess
from tests.integration.gateway.test_gateway_waitlist import SECRET
from tests.integration.gateway.test_gateway_waitlist import operators as operators
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.release.release_record import ReleaseControl
from waitlist.release.release_store import ReleaseStore
from waitlist.storage import redis_keys
from waitlist.storage.ledger import _SHAS, Ledger
from waitlist.upkeep.ledger_check import check_ledger

pytestmark = pytest.mark.integration

# 80 steps of fifty people each: a kill after the first falls between them.
PEOPLE = 5000
BATCH = 4000
FAR_OFF_S = 4_000_000_000.0


def port_that_lets_people_in(url: str) -> int:
    """The client's port of the first step of letting in; waits for it."""
    with (
        redis.Redis.from_url(url, decode_responses=True, socket_timeout=120.0) as client,
        client.monitor() as monitor,
    ):
        for seen in monitor.listen():
            if seen["command"].startswith("EVALSHA") and _SHAS["release"] in seen["command"]:
                return int(seen["client_port"])
    raise AssertionError("the ledger ended")


def kill_whoever_holds(port: int, workers: list[psutil.Process]) -> psutil.Process:
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            if port in {c.laddr.port for c in worker.net_connections("tcp")}:
                worker.kill()
                return worker
    raise AssertionError(f"no worker is connected from port {port}")


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[Ledger]:
    ledger = Ledger(ledger_server.url, deadline_s=30)
    yield ledger
    await ledger.close()


@pytest.mark.timeout(180)
async def test_batch_of_a_killed_leader_is_completed_by_the_other_worker(
    start_gateway: Callable[..., GatewayProcess],
    operators: Directory,
    ledger: Ledger,
    ledger_server: RedisServer,
) -> None:
    store = ReleaseStore(ledger)
    await store.set_control(ReleaseControl(batch_max=BATCH), at_s=0, actor="test")
    rows = ({"email": f"person{number}@example.com"} for number in range(PEOPLE))
    watching = asyncio.create_task(asyncio.to_thread(port_that_lets_people_in, ledger_server.url))
    settings = {
        "waitlist_secret": SECRET,
        "release_automatic": True,
        "slots": 100_000,
        "workers": 2,
    }
    async for _ in operators.imports.run("f" * 64, rows):
        pass
    async with start_gateway(**settings) as gate:
        workers = gate.workers()
        port = await watching
        leader = kill_whoever_holds(port, workers)
        # The next leader decides anew once it has closed the batch: it is to let in nobody more.
        await store.set_control(ReleaseControl(begins_at_s=FAR_OFF_S), at_s=0, actor="test")
        [batch] = await operators.releases.newest()
        assert 0 < batch.released < batch.size == BATCH, "the kill fell into the batch"
        [open_decision] = await store.newest_decisions(5)
        assert open_decision.released is None
        while (await store.newest_decisions(5))[-1].released is None:
            await asyncio.sleep(0.05)
        assert leader.pid not in {worker.pid for worker in gate.workers()}
        survivors = [worker for worker in workers if worker.pid != leader.pid]
        assert all(worker.is_running() for worker in survivors)
    [*later, closed] = await store.newest_decisions(5)
    assert all(each.decision.batch == 0 for each in later)
    assert (closed.decision.decision_id, closed.released) == (
        open_decision.decision.decision_id,
        BATCH,
    )
    with redis.Redis.from_url(ledger_server.url, decode_responses=True) as client:
        lease_tokens = int(client.get(redis_keys.RELEASE_LAST_TOKEN) or 0)
        let_in = set(client.zrange(redis_keys.INVITED, 0, -1))
    assert lease_tokens > open_decision.decision.leader, "another leader has closed it"
    first = [operators.signer.entry_id_of("f" * 64, row) for row in range(1, BATCH + 1)]
    assert let_in == set(first), "the head of the line, and nobody else"
    [today] = await operators.overview.days(1)
    assert today.counts["invited"] == BATCH
    assert [finding async for finding in check_ledger(ledger)] == []
