"""A ledger on a disk that runs full: writes stop before, or Redis ends and comes back whole."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.home import Home
from deploy.ledger_disk import LedgerDisk
from deploy.redis_processes import RedisPlan, start_redis
from deploy.stop_signal import StopSignal
from deploy.supervisor import Supervisor
from tests.integration.waitlist.conftest import LedgerState
from tests.redis_server import RedisServer
from tests.small_disk import SmallDisk, small_disk
from waitlist.directory import Directory, open_directory
from waitlist.errors import CodeUsed, LedgerUnavailable
from waitlist.records import Invite, Redemption

pytestmark = pytest.mark.integration

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", mib=16) as disk:
        yield disk


@pytest.fixture
def home(disk: SmallDisk, tmp_path: Path) -> Home:
    """Its ledger lies on the small disk, its logs do not."""
    home = Home(tmp_path / "home", tmp_path)
    (disk.folder / "ledger").mkdir()
    home.root.mkdir()
    home.ledger.symlink_to(disk.folder / "ledger")
    home.make()
    return home


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(print)
    yield supervisor
    supervisor.stop("redis-ledger")


@pytest.fixture
def plan(home: Home, supervisor: Supervisor) -> RedisPlan:
    stop = StopSignal()
    plan = start_redis("ledger", home, dict(os.environ), supervisor, stop)
    stop.close()
    return plan


class Redeeming:
    """People who redeem one after another, and what they were told."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._queue: list[Invite] = []
        self.acknowledged: dict[str, Redemption] = {}
        self.undecided: set[str] = set()
        self.hints: set[str] = set()

    async def run_until_refused(self, invites: list[Invite]) -> None:
        """Eight at a time; each ends with its first refusal, after which it may have worked."""
        self._queue = list(invites)
        await asyncio.gather(*(self._run_until_refused() for _ in range(8)))

    async def _run_until_refused(self) -> None:
        while self._queue:
            invite = self._queue.pop()
            email = f"{invite.invite_id}@example.com"
            try:
                self.acknowledged[email] = await self._directory.redeem(invite.code, email)
            except LedgerUnavailable as error:
                self.undecided.add(email)
                self.hints.add(error.hint)
                return

    def assert_kept_by(self, state: LedgerState) -> None:
        state.assert_whole()
        accounts = {a["email"]: id_ for id_, a in state.records("account").items()}
        assert set(self.acknowledged) <= set(accounts) <= {*self.acknowledged, *self.undecided}
        for email, redemption in self.acknowledged.items():
            assert accounts[email] == redemption.account_id


async def test_below_the_floor_writes_are_refused_and_reads_go_on(
    disk: SmallDisk, home: Home, plan: RedisPlan, flow_server: RedisServer
) -> None:
    events: list[str] = []
    guard = LedgerDisk(home.ledger, plan.url, free_bytes_min=8 * MIB, on_event=events.append)
    async with open_directory(plan.url, flow_server.url, deadline_s=30.0) as directory:
        invites = await directory.create_invites(3)
        ada = await directory.redeem(invites[0].code, "ada@example.com")
        guard.check()
        assert events == []

        disk.fill(4 * MIB)
        guard.check()
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="floor of free space"):
                await directory.redeem(invites[1].code, "eve@example.com")
        await directory.ping()
        assert await directory.find_key(ada.api_key) is not None
        async with open_directory(plan.url, flow_server.url, deadline_s=30.0) as newcomer:
            assert await newcomer.find_key(ada.api_key) is not None
            with pytest.raises(LedgerUnavailable, match="floor of free space"):
                await newcomer.create_invites(1)

        disk.clear()
        guard.check()
        await directory.redeem(invites[1].code, "eve@example.com")
    assert [event.split(":")[0] for event in events] == [
        "the ledger takes no writes",
        "the ledger takes writes again",
    ]
    with redis.Redis.from_url(plan.url, decode_responses=True) as client:
        LedgerState(client).assert_whole()
    guard.close()


async def test_ledger_that_was_started_again_is_shut_again(
    disk: SmallDisk, home: Home, plan: RedisPlan, supervisor: Supervisor, flow_server: RedisServer
) -> None:
    guard = LedgerDisk(home.ledger, plan.url, free_bytes_min=8 * MIB, on_event=print)
    async with open_directory(plan.url, flow_server.url, deadline_s=30.0) as directory:
        await directory.ping()
        disk.fill(4 * MIB)
        guard.check()
        supervisor.child("redis-ledger").process.kill()
        guard.check()  # it is gone: nothing to see to
        await brought_back(supervisor, plan)
        guard.check()
        with pytest.raises(LedgerUnavailable, match="floor of free space"):
            await directory.create_invites(1)
    guard.close()


async def test_full_disk_ends_the_ledger_and_nothing_acknowledged_is_lost(
    disk: SmallDisk, plan: RedisPlan, supervisor: Supervisor, flow_server: RedisServer
) -> None:
    """No guard here: the disk runs full under redemptions, three times, each time elsewhere."""
    async with open_directory(plan.url, flow_server.url, deadline_s=30.0) as directory:
        invites = await directory.create_invites(1500)
        with redis.Redis.from_url(plan.url, decode_responses=True) as client:
            state = LedgerState(client)
            people = Redeeming(directory)
            for round_number, free_bytes in enumerate((4096, 16384, 40960)):
                share = invites[round_number * 500 : round_number * 500 + 500]
                before = len(people.acknowledged)
                disk.fill(free_bytes)
                await people.run_until_refused(share)
                assert len(people.acknowledged) > before and len(people.undecided) == 8
                assert any("FLOODGATE_LEDGER_URL" in hint for hint in people.hints)
                assert supervisor.child("redis-ledger").process.wait() != 0

                # Started again on the full disk it can be read, and ends at the next write.
                await brought_back(supervisor, plan)
                people.assert_kept_by(state)
                with pytest.raises(LedgerUnavailable):
                    while True:
                        await directory.create_invites(100)
                disk.clear()
                await brought_back(supervisor, plan)
                people.assert_kept_by(state)
                for email in sorted(people.undecided):
                    code = next(i.code for i in share if email.startswith(i.invite_id))
                    try:
                        people.acknowledged[email] = await directory.redeem(code, email)
                    except CodeUsed:  # it had worked, and its answer was lost
                        people.acknowledged[email] = account_of(state, email)
                people.undecided.clear()
                people.assert_kept_by(state)


def account_of(state: LedgerState, email: str) -> Redemption:
    for account_id, account in state.records("account").items():
        if account["email"] == email:
            return Redemption(account_id=account_id, key_id="", plan="", api_key="")
    raise AssertionError(f"no account of {email}")


async def brought_back(supervisor: Supervisor, plan: RedisPlan) -> None:
    """Lets the supervisor do what the launcher lets it do, until the ledger answers."""
    with redis.Redis.from_url(plan.url, socket_timeout=5.0) as client:
        while True:
            supervisor.check()
            try:
                client.ping()
                return
            except (redis.RedisError, OSError):
                await asyncio.sleep(0.02)
