"""Ledgers of version 1 brought to later ones: whole, resumed, refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.errors import LedgerIncompatible, LedgerMigrationRefused, LedgerUnavailable
from waitlist.storage.ledger import Ledger
from waitlist.storage.migrations import MIGRATIONS, Migration, migrate
from waitlist.upkeep.ledger_check import check_ledger

pytestmark = pytest.mark.integration

TAG = "fg:{ledger}:"


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[Ledger]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0, any_schema=True)
    yield ledger
    await ledger.close()


async def make_version_1(directory: Directory, ledger_state: Any, people: int) -> list[Any]:
    """Redemptions, as the first version left them: without what later versions added."""
    invites = await directory.create_invites(people)
    redemptions = [
        await directory.redeem(invite.code, f"person{i}@example.com")
        for i, invite in enumerate(invites)
    ]
    for name in ledger_state.client.scan_iter(f"{TAG}account-keys:*"):
        ledger_state.client.delete(name)
    ledger_state.client.set(f"{TAG}schema", "1")
    return redemptions


def account_keys(ledger_state: Any) -> dict[str, list[str]]:
    prefix = f"{TAG}account-keys:"
    client = ledger_state.client
    return {
        name.removeprefix(prefix): client.zrange(name, 0, -1)
        for name in client.scan_iter(f"{prefix}*")
    }


async def test_version_1_becomes_version_2(
    ledger: Ledger, directory: Directory, ledger_state: Any
) -> None:
    redemptions = await make_version_1(directory, ledger_state, 450)
    seen: list[int] = []
    reached = await migrate(ledger, target=2, on_progress=lambda p: seen.append(p.records))
    assert reached == (1, 2)
    assert ledger_state.client.get(f"{TAG}schema") == "2"
    assert account_keys(ledger_state) == {r.account_id: [r.key_id] for r in redemptions}
    assert seen[-1] == 450 and len(seen) > 2
    assert [finding async for finding in check_ledger(ledger)] == []
    assert await migrate(ledger, target=2) == (2, 2)


async def test_check_finds_an_account_without_its_keys(
    ledger: Ledger, directory: Directory, ledger_state: Any
) -> None:
    [redemption] = await make_version_1(directory, ledger_state, 1)
    await migrate(ledger, target=2)
    ledger_state.client.delete(f"{TAG}account-keys:{redemption.account_id}")
    [finding] = [finding async for finding in check_ledger(ledger)]
    assert "not among the keys" in finding.problem


async def test_ledger_killed_midway_goes_on_where_it_was(
    ledger: Ledger, directory: Directory, ledger_state: Any, ledger_server: RedisServer
) -> None:
    redemptions = await make_version_1(directory, ledger_state, 450)
    pages: list[str] = []

    async def page_then_kill(ledger: Ledger, cursor: str) -> tuple[str, int]:
        pages.append(cursor)
        result = await MIGRATIONS[0].page(ledger, cursor)
        if len(pages) == 2:
            ledger_server.kill()
        return result

    failing = (Migration(2, "killed", page_then_kill),)
    with pytest.raises(LedgerUnavailable):
        await migrate(ledger, target=2, migrations=failing)
    ledger_server.start()
    assert ledger_state.client.get(f"{TAG}schema") == "1>2"
    with pytest.raises(LedgerIncompatible, match="1>2"):
        await directory.ping()
    assert await migrate(ledger, target=2, migrations=failing) == (1, 2)
    assert pages == ["0", "200", "400", "400", "450"]  # the first 400 found no ledger
    assert account_keys(ledger_state) == {r.account_id: [r.key_id] for r in redemptions}
    assert ledger_state.client.get(f"{TAG}migration") is None


async def test_running_gateway_is_shut_out_from_the_first_page_on(
    ledger: Ledger, directory: Directory, ledger_state: Any
) -> None:
    """It checked the schema long ago; it looks again before its next call."""
    await make_version_1(directory, ledger_state, 1)
    refused: list[str] = []

    async def page(ledger: Ledger, cursor: str) -> tuple[str, int]:
        with pytest.raises(LedgerIncompatible) as raised:
            await directory.create_invites(1)
        refused.append(raised.value.hint)
        return await MIGRATIONS[0].page(ledger, cursor)

    await migrate(ledger, target=2, migrations=(Migration(2, "watched", page),))
    assert refused and "floodgate ledger migrate" in refused[0]
    assert len(ledger_state.records("invite")) == 1


@pytest.mark.parametrize("schema", ["3", "2>3"])
async def test_way_back_is_refused(ledger: Ledger, ledger_state: Any, schema: str) -> None:
    ledger_state.client.set(f"{TAG}schema", schema)
    with pytest.raises(LedgerIncompatible, match=schema):
        await migrate(ledger, target=2)
    assert ledger_state.client.get(f"{TAG}schema") == schema


async def test_two_steps_run_in_order_and_stop_between(
    ledger: Ledger, directory: Directory, ledger_state: Any
) -> None:
    await make_version_1(directory, ledger_state, 3)
    order: list[int] = []

    async def third(ledger: Ledger, cursor: str) -> tuple[str, int]:
        assert ledger_state.client.get(f"{TAG}schema") == "2>3"
        order.append(3)
        return "", 0

    migrations = (*MIGRATIONS, Migration(3, "third", third))
    assert await migrate(ledger, target=3, migrations=migrations) == (1, 3)
    assert order == [3]
    assert ledger_state.client.get(f"{TAG}schema") == "3"


async def test_missing_step_and_foreign_schema_are_told(ledger: Ledger, ledger_state: Any) -> None:
    ledger_state.client.set(f"{TAG}schema", "1")
    with pytest.raises(LedgerMigrationRefused, match="version 3"):
        await migrate(ledger, target=3)
    assert ledger_state.client.get(f"{TAG}schema") == "1"
    ledger_state.client.set(f"{TAG}schema", "somebody's")
    with pytest.raises(LedgerMigrationRefused, match="never wrote"):
        await migrate(ledger, target=2)


async def test_empty_ledger_begins_at_the_target(ledger: Ledger, ledger_state: Any) -> None:
    assert await migrate(ledger, target=2) == (2, 2)
    assert ledger_state.client.get(f"{TAG}schema") == "2"
