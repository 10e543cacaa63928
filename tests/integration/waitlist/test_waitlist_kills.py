"""kill -9 of those who write and of the ledger, at random points: each acknowledged one once."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.storage.ledger import Ledger
from waitlist.upkeep.ledger_check import check_ledger

pytestmark = pytest.mark.integration


class People:
    """The process of tests.redeem_process, started again whenever it was killed."""

    def __init__(self, ledger: RedisServer, flow: RedisServer, folder: Path) -> None:
        self.codes, self.done = folder / "codes", folder / "done"
        self.done.touch()
        self._argv = [sys.executable, "-m", "tests.redeem_process", ledger.url, flow.url]
        self._argv += [str(self.codes), str(self.done)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait()

    def decided(self) -> list[list[str]]:
        return [line.split() for line in self.done.read_text().splitlines()]


async def kill_while_people_redeem(
    directory: Directory,
    people: People,
    ledger_server: RedisServer,
    count: int,
    kills: int,
    draw: random.Random,
) -> None:
    """Both are killed by turns, each time after another random number of answers."""
    invites = await directory.create_invites(count)
    rows = [f"{invite.code} person{i}@example.com\n" for i, invite in enumerate(invites)]
    people.codes.write_text("".join(rows))
    people.start()
    goals = sorted(draw.sample(range(1, count * 9 // 10), kills))
    try:
        for goal in goals:
            while len(people.decided()) < goal:
                await asyncio.sleep(0.002)
            if draw.random() < 0.5:
                people.kill()
                people.start()
            else:
                ledger_server.kill()
                await asyncio.to_thread(ledger_server.start)
        assert await asyncio.to_thread(people.wait) == 0
    finally:
        people.kill()
    ledger_server.kill()  # so that what is looked at now is what the disk holds
    ledger_server.start()


async def assert_each_once(
    people: People,
    ledger_server: RedisServer,
    flow_server: RedisServer,
    ledger_state: Any,
    count: int,
) -> None:
    ledger_state.assert_whole()
    accounts = {a["email"]: id_ for id_, a in ledger_state.records("account").items()}
    decided = people.decided()
    assert len(accounts) == count
    assert sorted(row[1] for row in decided) == sorted(accounts)
    async with open_directory(ledger_server.url, flow_server.url, deadline_s=30.0) as directory:
        for row in decided:
            if row[0] == "ok":
                _, email, account_id, api_key = row
                record = await directory.find_key(api_key)
                assert record is not None
                assert record.account_id == account_id == accounts[email]
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    assert [finding async for finding in check_ledger(ledger)] == []
    await ledger.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_acknowledged_is_lost(
    directory: Directory,
    ledger_server: RedisServer,
    flow_server: RedisServer,
    ledger_state: Any,
    tmp_path: Path,
    seed: int,
) -> None:
    people = People(ledger_server, flow_server, tmp_path)
    draw = random.Random(seed)
    await kill_while_people_redeem(directory, people, ledger_server, 500, 5, draw)
    await assert_each_once(people, ledger_server, flow_server, ledger_state, 500)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_nothing_acknowledged_is_lost_in_ten_thousand(
    directory: Directory,
    ledger_server: RedisServer,
    flow_server: RedisServer,
    ledger_state: Any,
    tmp_path: Path,
) -> None:
    people = People(ledger_server, flow_server, tmp_path)
    draw = random.Random(3)
    await kill_while_people_redeem(directory, people, ledger_server, 10_000, 60, draw)
    await assert_each_once(people, ledger_server, flow_server, ledger_state, 10_000)
