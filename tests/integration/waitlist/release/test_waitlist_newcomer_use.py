"""What new people ask, out of the ledger's own records."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.waitlist.conftest import Clock
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.release.newcomer_use import NewcomerMeter
from waitlist.release.release_sizing import NewcomerUse
from waitlist.release.release_store import ReleaseStore
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.storage.ledger import Ledger

pytestmark = pytest.mark.integration

DAY_S = 86_400
HOUR_S = 3_600


class World:
    """A ledger at the beginning of a UTC day, its records written as the gateway writes them."""

    def __init__(self, ledger: Ledger, directory: Directory, clock: Clock) -> None:
        clock.now_s -= clock.now_s % DAY_S
        self.directory, self.clock = directory, clock
        self.store = ReleaseStore(ledger)
        acting = ActingLedger(ledger, clock=clock, actor="test")
        self.meter = NewcomerMeter(acting, directory.usage, self.store)
        self._batches = 0

    @property
    def day(self) -> int:
        return int(self.clock() // DAY_S)

    async def person(self) -> str:
        """Somebody whose first request is now."""
        [invite] = await self.directory.create_invites(1)
        made = await self.directory.redeem(invite.code, f"{invite.invite_id}@example.com")
        await self.directory.first_requests.note({made.account_id: round(self.clock() * 1000)})
        return made.account_id

    async def use(self, account_id: str, tokens: int) -> None:
        self._batches += 1
        row = (account_id, self.day, "m", 1, tokens, 0)
        await self.directory.usage.add("w", self._batches, [row])

    async def hour_of_demand(self, slots: float) -> None:
        lease = await self.store.hold_lease("test", 3600)
        assert lease is not None
        await self.store.note_use(lease, self.clock(), slots, 1)
        self.clock.advance(HOUR_S)


@pytest.fixture
async def world(
    ledger_server: RedisServer, directory: Directory, clock: Clock
) -> AsyncIterator[World]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield World(ledger, directory, clock)
    await ledger.close()


async def test_nothing_is_known_before_anything_was_used(world: World) -> None:
    assert await world.meter.read() == NewcomerUse(0, 0.0, 0.0)
    await world.person()
    await world.hour_of_demand(4)
    assert await world.meter.read() == NewcomerUse(0, 0.0, 0.0)


async def test_slots_go_to_people_by_their_tokens(world: World) -> None:
    """Six hours at 4 slots are a slot day; who used a quarter of the tokens had a quarter of it."""
    new, old = await world.person(), "acct_from_before"
    await world.use(new, 250)
    await world.use(old, 750)
    for _ in range(6):
        await world.hour_of_demand(4)
    found = await world.meter.read()
    assert found.people == 1
    assert found.person_days == pytest.approx(0.25)
    assert found.slot_days == pytest.approx(0.25)


async def test_only_first_days_count(world: World) -> None:
    """On the fourth day the first three are all that is counted of a person."""
    person = await world.person()
    for _ in range(4):
        await world.use(person, 100)
        await world.hour_of_demand(1)
        world.clock.advance(DAY_S - HOUR_S)
    world.clock.advance(-HOUR_S)
    found = await world.meter.read()
    assert found.person_days == pytest.approx(3.0)
    # Of the last three days: 3 slot hours for 300 tokens.
    assert found.slot_days == pytest.approx(300 * (3 / 300) / 24)


async def test_the_latest_people_come_first_until_enough_were_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waitlist.release.newcomer_use.NEWCOMER_PERSON_DAYS", 0.5)
    await world.person()
    await world.hour_of_demand(1)
    later = await world.person()
    await world.use(later, 100)
    for _ in range(12):
        await world.hour_of_demand(1)
    assert (await world.meter.read()).people == 1
