"""Damage to the line, planted and found."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.integration.waitlist.conftest import TAG, join
from tests.redis_server import RedisServer
from waitlist.chores import work_on_line
from waitlist.directory import Directory
from waitlist.ledger import Ledger
from waitlist.ledger_check import Finding, check_ledger

pytestmark = pytest.mark.integration

PLANTED: dict[str, tuple[Callable[[Any, str, str], Any], str, str]] = {
    "waiting, not in line": (lambda c, w, i: c.zrem(f"{TAG}line", w), "entry", "not in the line"),
    "invited, in line": (lambda c, w, i: c.zadd(f"{TAG}line", {i: 1}), "entry", "but in the line"),
    "invited, not among them": (
        lambda c, w, i: c.zrem(f"{TAG}invited", i),
        "entry",
        "not among the invited",
    ),
    "invite gone": (
        lambda c, w, i: c.delete(f"{TAG}invite:{c.hget(f'{TAG}entry:{i}', 'invite')}"),
        "entry",
        "its invite",
    ),
    "entry gone": (lambda c, w, i: c.delete(f"{TAG}entry:{w}"), "place", "is not there"),
    "state changed": (
        lambda c, w, i: c.hset(f"{TAG}entry:{w}", "state", "left"),
        "entry",
        "it is left, but in the line",
    ),
}


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[Ledger]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield ledger
    await ledger.close()


async def findings_of(ledger: Ledger) -> list[Finding]:
    return [finding async for finding in check_ledger(ledger)]


async def test_line_in_use_is_whole(line: Directory, ledger: Ledger, clock: Any) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(6)]
    batch = await line.releases.release(3)
    code = line.signer.code(joined[0].entry_id, batch.batch_id)
    await line.redeem(code, "person0@example.com")
    assert await findings_of(ledger) == []
    clock.advance(8 * 86_400)
    await work_on_line(line)
    assert await findings_of(ledger) == []


@pytest.mark.parametrize("damage", list(PLANTED))
async def test_planted_damage_is_found(
    line: Directory, ledger: Ledger, ledger_state: Any, damage: str
) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(2)]
    await line.releases.release(1)
    plant, record, words = PLANTED[damage]
    plant(ledger_state.client, joined[1].entry_id, joined[0].entry_id)
    found = await findings_of(ledger)
    assert [f for f in found if f.record == record and words in f.problem], found
