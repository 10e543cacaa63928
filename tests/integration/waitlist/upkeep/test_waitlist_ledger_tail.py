"""Ledgers whose files were torn or damaged: repaired where nothing acknowledged is lost."""

from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer
from waitlist.directory import open_directory
from waitlist.errors import LedgerDamaged
from waitlist.upkeep.ledger_tail import repair_tail

pytestmark = pytest.mark.integration

DEADLINE_S = 30.0


def log_file(server: RedisServer) -> Path:
    [path] = (server.folder / "appendonlydir").glob("*.incr.aof")
    return path


async def redeem(ledger: RedisServer, flow: RedisServer, email: str) -> str:
    """The key of a new account."""
    async with open_directory(ledger.url, flow.url, deadline_s=DEADLINE_S) as directory:
        [invite] = await directory.create_invites(1)
        return (await directory.redeem(invite.code, email)).api_key


async def is_known(ledger: RedisServer, flow: RedisServer, api_key: str) -> bool:
    async with open_directory(ledger.url, flow.url, deadline_s=DEADLINE_S) as directory:
        return await directory.find_key(api_key) is not None


def last_transaction_begins(content: bytes) -> int:
    return content.rindex(b"*1\r\n$5\r\nMULTI\r\n")


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.99])
async def test_torn_redemption_is_taken_away_whole_and_later_ones_stay(
    tmp_path: Path, flow_server: RedisServer, share: float
) -> None:
    """Two starts later, too: that is when a half transaction would swallow the next one."""
    with RedisServer.ledger(tmp_path) as ledger:
        before = await redeem(ledger, flow_server, "before@example.com")
        torn = await redeem(ledger, flow_server, "torn@example.com")
        ledger.kill()
        content = log_file(ledger).read_bytes()
        begins = last_transaction_begins(content)
        kept = begins + 1 + int((len(content) - begins - 2) * share)
        log_file(ledger).write_bytes(content[:kept])
        ledger.start()
        assert not await is_known(ledger, flow_server, torn)
        after = await redeem(ledger, flow_server, "torn@example.com")
        ledger.kill()
        ledger.start()
        assert await is_known(ledger, flow_server, before)
        assert await is_known(ledger, flow_server, after)


def test_whole_files_are_left_alone(ledger_server: RedisServer, ledger_state: Any) -> None:
    ledger_state.client.set("a", "1")
    ledger_server.kill()
    before = log_file(ledger_server).read_bytes()
    assert repair_tail(ledger_server.folder) == 0
    assert log_file(ledger_server).read_bytes() == before


def test_folder_of_no_ledger_yet_is_left_alone(tmp_path: Path) -> None:
    assert repair_tail(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["a byte in the middle", "zeros at the end", "no log file"])
async def test_other_damage_is_told_and_left_alone(
    tmp_path: Path, flow_server: RedisServer, damage: str
) -> None:
    with RedisServer.ledger(tmp_path) as ledger:
        for i in range(3):
            await redeem(ledger, flow_server, f"person{i}@example.com")
        ledger.kill()
        path = log_file(ledger)
        content = path.read_bytes()
        middle = content.index(b"\r\n$", len(content) // 2)
        damaged = {
            "a byte in the middle": content[:middle] + b"x" + content[middle + 1 :],
            "zeros at the end": content + bytes(4096),
            "no log file": None,
        }[damage]
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        with pytest.raises(LedgerDamaged, match="redis-check-aof --fix"):
            repair_tail(ledger.folder)
        assert (path.read_bytes() if path.exists() else None) == damaged
