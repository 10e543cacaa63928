"""A ledger on a disk that runs full: writes stop before, or Redis ends and comes back whole."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from deploy.home import Home
from deploy.launcher.ledger_disk import LedgerDisk
from deploy.launcher.redis_processes import RedisPlan, start_redis
from deploy.launcher.stop_signal import StopSignal
from deploy.launcher.supervisor import Supervisor
from tests.gateway_process import GatewayProcess
from tests.integration.waitlist.conftest import SECRET, LedgerState, line_settings
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import ScriptedEngine
from tests.small_disk import SmallDisk, small_disk
from waitlist.directory import Directory, open_directory
from waitlist.errors import CodeUsed, LedgerUnavailable
from waitlist.line.join_request import JoinRequest
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger
from waitlist.storage.records import Invite, Redemption
from waitlist.upkeep.ledger_check import check_ledger

pytestmark = pytest.mark.integration

MIB = 2**20
ROOT = Path(__file__).resolve().parents[4]


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


class People:
    """People who join and redeem one after another, and what they were told."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._queue: list[Invite] = []
        self.acknowledged: dict[str, Redemption] = {}
        self.undecided: set[str] = set()
        self.joined: dict[str, str] = {}
        """Idempotency-Key -> entry id."""
        self.undecided_joins: set[str] = set()
        self.hints: set[str] = set()

    async def run_until_refused(self, invites: list[Invite]) -> None:
        """Eight at a time; each ends with its first refusal, after which it may have worked."""
        self._queue = list(invites)
        await asyncio.gather(*(self._run_until_refused() for _ in range(8)))

    async def _run_until_refused(self) -> None:
        while self._queue:
            invite = self._queue.pop()
            email = f"{invite.invite_id}@example.com"
            key = f"join of {invite.invite_id}"
            try:
                await self.join(key)
            except LedgerUnavailable as error:
                self.undecided_joins.add(key)
                self.hints.add(error.hint)
                return
            try:
                self.acknowledged[email] = await self._directory.redeem(invite.code, email)
            except LedgerUnavailable as error:
                self.undecided.add(email)
                self.hints.add(error.hint)
                return

    async def join(self, key: str) -> None:
        request = JoinRequest(f"{key.split('_')[1]}@example.org")
        joined = await self._directory.entries.join(
            request, network="192.0.2.1", proof=None, idempotency_key=key
        )
        self.joined[key] = joined.entry_id

    def assert_kept_by(self, state: LedgerState) -> None:
        state.assert_whole()
        accounts = {a["email"]: id_ for id_, a in state.records("account").items()}
        assert set(self.acknowledged) <= set(accounts) <= {*self.acknowledged, *self.undecided}
        for email, redemption in self.acknowledged.items():
            assert accounts[email] == redemption.account_id
        entries = state.records("entry")
        possible = len(self.joined) + len(self.undecided_joins)
        assert set(self.joined.values()) <= entries.keys()
        assert len(entries) <= possible
        assert len({entry["email"] for entry in entries.values()}) == len(entries)
        places = state.client.zrange(redis_keys.LINE, 0, -1)
        assert set(places) == entries.keys(), "no place without its entry, and no entry without"


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
        await until_seen_to(guard, plan, shut=True)
        while len(events) < 1:
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
        await until_seen_to(guard, plan, shut=False)
        while len(events) < 2:
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
        await until_seen_to(guard, plan, shut=True)
        supervisor.child("redis-ledger").process.kill()
        guard.check()  # it is gone: nothing to see to
        await brought_back(supervisor, plan)
        await until_seen_to(guard, plan, shut=True)
        with pytest.raises(LedgerUnavailable, match="floor of free space"):
            await directory.create_invites(1)
    guard.close()


async def test_full_disk_ends_the_ledger_and_nothing_acknowledged_is_lost(
    disk: SmallDisk, plan: RedisPlan, supervisor: Supervisor, flow_server: RedisServer
) -> None:
    """No guard: the disk runs full under people, three times, each time elsewhere."""
    async with open_directory(
        plan.url, flow_server.url, deadline_s=30.0, settings=line_settings()
    ) as directory:
        invites = await directory.create_invites(1500)
        ledger = Ledger(plan.url, deadline_s=30.0)
        with redis.Redis.from_url(plan.url, decode_responses=True) as client:
            state = LedgerState(client)
            people = People(directory)
            for round_number, free_bytes in enumerate((8192, 16384, 40960)):
                share = invites[round_number * 500 : round_number * 500 + 500]
                before = len(people.acknowledged) + len(people.joined)
                disk.fill(free_bytes)
                await people.run_until_refused(share)
                assert len(people.acknowledged) + len(people.joined) > before
                assert len(people.undecided) + len(people.undecided_joins) == 8
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
                for key in sorted(people.undecided_joins):
                    await people.join(key)
                people.undecided_joins.clear()
                people.assert_kept_by(state)
                assert len(state.records("entry")) == len(people.joined), "each of them once"
                assert [f async for f in check_ledger(ledger)] == []
        await ledger.close()


async def test_guard_command_shuts_a_ledger_of_ones_own_and_opens_it_again(
    disk: SmallDisk, home: Home, plan: RedisPlan, flow_server: RedisServer, tmp_path: Path
) -> None:
    environ = {name: text for name, text in os.environ.items() if name[:10] != "FLOODGATE_"}
    environ |= {
        "PYTHONPATH": str(ROOT),
        "FLOODGATE_HOME": str(tmp_path / "other"),
        "FLOODGATE_LEDGER_URL": plan.url,
        "FLOODGATE_FLOW_URL": flow_server.url,
        "FLOODGATE_LEDGER_FREE_BYTES_MIN": str(8 * MIB),
    }
    command = [sys.executable, "-m", "deploy.cli", "ledger", "guard", str(home.ledger)]
    told = (tmp_path / "guard.log").open("w+b")
    guard = subprocess.Popen(command, env=environ, stdout=told, stderr=told)
    try:
        async with open_directory(plan.url, flow_server.url, deadline_s=30.0) as directory:
            for fill, refused in ((4 * MIB, True), (None, False), (4 * MIB, True)):
                disk.clear() if fill is None else disk.fill(fill)
                while await is_refused(directory) != refused:
                    assert guard.poll() is None, (tmp_path / "guard.log").read_text()
                    await asyncio.sleep(0.05)
    finally:
        guard.terminate()
        guard.wait()
        told.close()
    text = (tmp_path / "guard.log").read_text()
    assert text.count("the ledger takes no writes") == 2
    assert text.count("the ledger takes writes again") == 1
    assert "Traceback" not in text


async def is_refused(directory: Directory) -> bool:
    try:
        await directory.create_invites(1)
    except LedgerUnavailable:
        return True
    return False


async def test_gateway_on_a_full_disk_says_when_to_come_back(
    disk: SmallDisk,
    home: Home,
    plan: RedisPlan,
    supervisor: Supervisor,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    """Over HTTP: below the floor, then with the disk full and Redis gone, then with room again."""
    guard = LedgerDisk(home.ledger, plan.url, free_bytes_min=8 * MIB, on_event=print)
    async with (
        ScriptedEngine() as engine,
        open_directory(plan.url, flow_server.url, deadline_s=30.0) as directory,
        GatewayProcess(
            tmp_path,
            ledger_url=plan.url,
            flow_url=flow_server.url,
            upstream_url=engine.url,
            slots=4,
            plans_file=write_plans(tmp_path),
            waitlist_secret=SECRET,
            join_proof_cost=0,
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        used, code = await directory.create_invites(2)
        key = (await directory.redeem(used.code, "ada@example.com")).api_key
        order = {"code": code.code, "email": "bob@example.com"}

        async def answers() -> list[httpx.Response]:
            return [
                await client.post("/waitlist/join", json={"email": "bob@example.com"}),
                await client.post("/invites/redeem", json=order),
            ]

        async def assert_refused() -> None:
            for answer in await answers():
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                error = answer.json()["error"]
                assert error["code"] == "ledger_unavailable"
                assert "try again in a few seconds" in error["message"]
                assert "disk" not in error["message"], "that is for the operator's log"

        disk.fill(4 * MIB)
        await until_seen_to(guard, plan, shut=True)
        await assert_refused()
        assert (await client.get("/keys", headers={"x-api-key": key})).status_code == 200
        while "floor of free space" not in gateway.log:
            await asyncio.sleep(0.05)
        disk.fill(0)
        supervisor.child("redis-ledger").process.kill()
        supervisor.child("redis-ledger").process.wait()
        await assert_refused()
        disk.clear()
        await brought_back(supervisor, plan)
        await until_seen_to(guard, plan, shut=False)
        assert [answer.status_code for answer in await answers()] == [201, 201]
    guard.close()


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


async def until_seen_to(guard: LedgerDisk, plan: RedisPlan, *, shut: bool) -> None:
    """Looks as often as the launcher does: a look ends at a ledger that is slow just then."""
    with redis.Redis.from_url(plan.url, socket_timeout=30.0, decode_responses=True) as client:
        while True:
            guard.check()
            wanted_replicas = client.config_get("min-replicas-to-write")["min-replicas-to-write"]
            if (wanted_replicas != "0") == shut:
                return
            await asyncio.sleep(0.05)
