"""Backups of a real ledger, put back; and what is refused."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.waitlist.conftest import LedgerState, confirmed, join, line_settings
from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.errors import LedgerBackupRefused, LedgerIncompatible
from waitlist.storage import redis_keys
from waitlist.upkeep.ledger_backup import back_up
from waitlist.upkeep.ledger_restore import Restored, restore

pytestmark = pytest.mark.integration

NOW_S = 1_795_000_000.0


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def make_people(directory: Directory, count: int) -> list[Any]:
    invites = await directory.create_invites(count)
    return [
        await directory.redeem(invite.code, f"{invite.invite_id}@example.com") for invite in invites
    ]


async def back_up_now(server: RedisServer, file: Path, *, overwrite: bool = False) -> int:
    return await asyncio.to_thread(
        back_up, server.url, file, overwrite=overwrite, on_progress=lambda bytes_: None
    )


async def put_back(file: Path, folder: Path, *, allow_damage: bool = False) -> Restored:
    return await restore(
        file, folder, allow_damage=allow_damage, on_progress=lambda progress: None, now_s=NOW_S
    )


async def test_what_was_backed_up_comes_back_and_goes_on(
    directory: Directory, ledger_server: RedisServer, flow_server: RedisServer, tmp_path: Path
) -> None:
    people = await make_people(directory, 30)
    file = tmp_path / "ledger.rdb"
    assert await back_up_now(ledger_server, file) == file.stat().st_size > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    later = (await make_people(directory, 1))[0]

    restored = await put_back(file, tmp_path / "ledger")
    assert (restored.findings, restored.set_aside) == (0, None)
    assert restored.schema == redis_keys.SCHEMA_VERSION
    with RedisServer.ledger(tmp_path / "ledger") as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            LedgerState(client).assert_whole()
            assert len(LedgerState(client).records("account")) == 30
        async with open_directory(server.url, flow_server.url, deadline_s=30.0) as back:
            for person in people:
                record = await back.find_key(person.api_key)
                assert record is not None and record.account_id == person.account_id
            assert await back.find_key(later.api_key) is None
            new = (await make_people(back, 1))[0]
            server.kill()
            server.start()
            assert await back.find_key(new.api_key) is not None
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


async def test_line_and_mails_come_back_as_they_were(
    mailed_line: Directory, ledger_server: RedisServer, flow_server: RedisServer, tmp_path: Path
) -> None:
    """Places in their order, pending ones too, and the mails that were to go out."""
    first = await confirmed(mailed_line, "first@example.com")
    for name in ("second", "third"):
        await confirmed(mailed_line, f"{name}@example.com")
    await join(mailed_line, "pending@example.com")
    await mailed_line.releases.release(1)
    before = await mailed_line.overview.line()
    places = [entry async for entry in mailed_line.exports.waiting()]
    mails = {mail.mail_id for mail in await mailed_line.outbox.waiting()}
    assert (before.in_line, before.pending, before.invited, len(mails)) == (3, 1, 1, 5)
    await back_up_now(ledger_server, tmp_path / "ledger.rdb")
    await mailed_line.departures.erase(mailed_line.signer.read(first))  # after the backup

    restored = await put_back(tmp_path / "ledger.rdb", tmp_path / "ledger")
    assert restored.findings == 0
    with RedisServer.ledger(tmp_path / "ledger") as server:
        async with open_directory(
            server.url, flow_server.url, deadline_s=30.0, settings=line_settings()
        ) as back:
            assert await back.overview.line() == before
            assert [entry async for entry in back.exports.waiting()] == places
            assert {mail.mail_id for mail in await back.outbox.waiting()} == mails
            # As docs/operations.md warns: who was erased since the backup is back.
            entry = await back.entries.read(back.signer.read(first).entry_id)
            assert (entry.state, entry.email) == ("invited", "first@example.com")
            joined = await join(back, "last@example.com")
            assert joined.ahead == 3, "behind everybody"


async def test_backup_under_use_is_of_one_moment(
    directory: Directory, ledger_server: RedisServer, tmp_path: Path
) -> None:
    """People redeem all the while; nothing in the backup is half there."""
    invites = await directory.create_invites(2000)
    done = asyncio.Event()

    async def use() -> None:
        for i, invite in enumerate(invites):
            if done.is_set():
                return
            await directory.redeem(invite.code, f"person{i}@example.com")

    using = asyncio.create_task(use())
    await back_up_now(ledger_server, tmp_path / "ledger.rdb")
    done.set()
    await using
    restored = await put_back(tmp_path / "ledger.rdb", tmp_path / "ledger")
    assert restored.findings == 0


async def test_ledger_that_is_there_is_kept_beside(
    directory: Directory, ledger_server: RedisServer, tmp_path: Path
) -> None:
    await make_people(directory, 2)
    await back_up_now(ledger_server, tmp_path / "ledger.rdb")
    folder = tmp_path / "ledger"
    with RedisServer.ledger(folder) as old, redis.Redis.from_url(old.url) as client:
        client.set("what", "was here")
    restored = await put_back(tmp_path / "ledger.rdb", folder)
    assert restored.set_aside is not None
    with RedisServer.ledger(restored.set_aside) as old, redis.Redis.from_url(old.url) as client:
        assert client.get("what") == b"was here"
    with RedisServer.ledger(folder) as new, redis.Redis.from_url(new.url) as client:
        assert client.get("what") is None


async def test_file_that_exists_is_not_replaced_by_itself(
    directory: Directory, ledger_server: RedisServer, tmp_path: Path
) -> None:
    await make_people(directory, 1)
    file = tmp_path / "ledger.rdb"
    file.write_text("precious")
    with pytest.raises(LedgerBackupRefused, match="exists"):
        await back_up_now(ledger_server, file)
    assert file.read_text() == "precious"
    await back_up_now(ledger_server, file, overwrite=True)
    assert file.read_bytes().startswith(b"REDIS")


async def test_ledger_that_is_gone_leaves_no_half_backup(
    directory: Directory, ledger_server: RedisServer, tmp_path: Path
) -> None:
    await make_people(directory, 1)
    ledger_server.kill()
    with pytest.raises(LedgerBackupRefused, match="cannot be read") as raised:
        await back_up_now(ledger_server, tmp_path / "ledger.rdb")
    assert ledger_server.password not in str(raised.value)
    assert names_in(tmp_path) == set()


async def test_place_that_cannot_be_written_is_told(
    ledger_server: RedisServer, tmp_path: Path
) -> None:
    with pytest.raises(LedgerBackupRefused, match="cannot be written"):
        await back_up_now(ledger_server, tmp_path / "nowhere" / "ledger.rdb")


@pytest.mark.parametrize("damage", ["cut short", "one byte", "no backup", "missing"])
async def test_damaged_file_is_refused_and_nothing_changes(
    directory: Directory, ledger_server: RedisServer, tmp_path: Path, damage: str
) -> None:
    await make_people(directory, 20)
    file, folder = tmp_path / "ledger.rdb", tmp_path / "ledger"
    await back_up_now(ledger_server, file)
    content = file.read_bytes()
    middle = len(content) // 2
    harmed = {
        "cut short": content[:middle],
        "one byte": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
        "no backup": b"hello",
        "missing": None,
    }[damage]
    file.unlink() if harmed is None else file.write_bytes(harmed)
    folder.mkdir()
    (folder / "precious").write_text("here")
    with pytest.raises(LedgerBackupRefused):
        await put_back(file, folder)
    assert (folder / "precious").read_text() == "here"
    assert names_in(tmp_path) <= {"ledger", "ledger.rdb"}


async def test_snapshot_of_another_redis_is_refused(
    flow_server: RedisServer, tmp_path: Path
) -> None:
    with redis.Redis.from_url(flow_server.url) as client:
        client.set("a", 1)
    await back_up_now(flow_server, tmp_path / "flow.rdb")
    with pytest.raises(LedgerBackupRefused, match="no schema"):
        await put_back(tmp_path / "flow.rdb", tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


async def test_records_that_do_not_fit_are_refused_unless_wanted(
    directory: Directory, ledger_server: RedisServer, ledger_state: Any, tmp_path: Path
) -> None:
    [person] = await make_people(directory, 1)
    ledger_state.client.delete(f"fg:{{ledger}}:account:{person.account_id}")
    await back_up_now(ledger_server, tmp_path / "ledger.rdb")
    with pytest.raises(LedgerBackupRefused, match="findings") as raised:
        await put_back(tmp_path / "ledger.rdb", tmp_path / "ledger")
    assert person.account_id in raised.value.message
    restored = await put_back(tmp_path / "ledger.rdb", tmp_path / "ledger", allow_damage=True)
    assert restored.findings > 0


async def test_backup_of_a_later_version_is_refused(
    directory: Directory, ledger_server: RedisServer, ledger_state: Any, tmp_path: Path
) -> None:
    await make_people(directory, 1)
    ledger_state.client.set("fg:{ledger}:schema", "999")
    await back_up_now(ledger_server, tmp_path / "ledger.rdb")
    with pytest.raises(LedgerIncompatible, match="999"):
        await put_back(tmp_path / "ledger.rdb", tmp_path / "ledger")
