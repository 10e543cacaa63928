import asyncio
from typing import Any

import pytest

from tests.integration.waitlist.conftest import join
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.release.activation_learner import ActivationLearner
from waitlist.release.release_controller import ControllerTimes, ReleaseController, ServingLoad
from waitlist.release.release_door import LineDoor
from waitlist.release.release_sizing import NewcomerUse, SizingPolicy
from waitlist.release.release_store import ReleaseStore
from waitlist.storage.ledger import Ledger
from waitlist.upkeep.ledger_check import check_ledger

pytestmark = pytest.mark.integration


class Gauge:
    async def read(self) -> ServingLoad:
        return ServingLoad(64.0, 0.0, "")


class Newcomers:
    async def read(self) -> NewcomerUse:
        return NewcomerUse(1000, 1000.0, 10.0)


async def test_decision_lets_the_head_of_the_line_in_once(
    line: Directory, ledger_server: RedisServer, ledger_state: Any, clock: Any
) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(12)]
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    learner = ActivationLearner(ledger, invite_life_s=7 * 86400.0)
    store = ReleaseStore(ledger)
    door = LineDoor(line.overview, line.releases)
    assert await door.people_waiting() == 12
    controller = ReleaseController(
        store=store,
        gauge=Gauge(),
        door=door,
        newcomers=Newcomers(),
        learner=learner,
        policy=SizingPolicy(batch_max=7),
        times=ControllerTimes(lease_s=60),
        clock=clock,
    )
    await controller.step()
    [recorded] = await store.newest_decisions(5)
    assert (recorded.decision.batch, recorded.released) == (7, 7)
    assert await door.release(7, recorded.decision.decision_id) == 7
    await asyncio.gather(*(door.release(7, recorded.decision.decision_id) for _ in range(5)))
    assert await door.people_waiting() == 5
    code = line.signer.code(joined[0].entry_id, f"batch_{recorded.decision.decision_id}")
    clock.advance(3600)
    redemption = await line.redeem(code, "person0@example.com")
    await line.first_requests.note({redemption.account_id: round(clock() * 1000)})
    await learner.read_on()
    invited, redeemed = learner.counts(clock())
    assert (invited.people_waiting, sum(invited.moved)) == (6, 1)
    assert (redeemed.people_waiting, sum(redeemed.moved), learner.people_in) == (0, 1, 1)
    assert [f async for f in check_ledger(ledger)] == []
    await ledger.close()
