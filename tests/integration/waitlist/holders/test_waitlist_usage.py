"""The usage history on a real ledger: sums, repetitions, kill -9 and forgetting."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pytest
import redis

from tests.redis_server import RedisServer
from waitlist.errors import LedgerUnavailable, RequestMalformed
from waitlist.holders.usage import DayUsage, UsageHistory, UsageSum
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.storage.ledger import Ledger

pytestmark = pytest.mark.integration

# Far ahead: the ledger's own clock forgets a month that ended more than 400 days before.
TODAY = date(2096, 11, 24)
DAY = (TODAY - date(1970, 1, 1)).days
NOON_S = datetime(2096, 11, 24, 12, tzinfo=UTC).timestamp()


@pytest.fixture
async def history(ledger_server: RedisServer) -> AsyncIterator[UsageHistory]:
    ledger = Ledger(ledger_server.url, deadline_s=30)
    yield history_of(ledger)
    await ledger.close()


def history_of(ledger: Ledger) -> UsageHistory:
    return UsageHistory(ActingLedger(ledger, clock=lambda: NOON_S, actor="tests"))


async def test_sums_grow_by_account_day_and_model(history: UsageHistory) -> None:
    await history.add("w1", 1, [("alice", DAY, "m", 2, 30, 40), ("alice", DAY, "a:b/c", 1, 5, 6)])
    await history.add("w2", 1, [("alice", DAY, "m", 1, 1, 1), ("bob", DAY, "m", 1, 9, 9)])
    await history.add("w1", 2, [("alice", DAY - 1, "m", 1, 100, 200)])
    assert await history.usage_of("alice", 2) == [
        DayUsage(TODAY, {"m": UsageSum(3, 31, 41), "a:b/c": UsageSum(1, 5, 6)}),
        DayUsage(date(2096, 11, 23), {"m": UsageSum(1, 100, 200)}),
    ]
    assert (await history.usage_of("alice", 1))[0].total == UsageSum(4, 36, 47)
    assert await history.tokens_used("alice", DAY) == 83
    assert await history.tokens_used("alice", DAY - 1) == 300
    assert await history.tokens_used("nobody", DAY) == 0
    assert await history.usage_of("nobody", 400) == []


async def test_a_history_reaches_over_months_and_years(history: UsageHistory) -> None:
    rows = [("alice", DAY - back, "m", 1, back, 0) for back in range(401)]
    for number, start in enumerate(range(0, len(rows), 100)):
        await history.add("w", number + 1, rows[start : start + 100])
    found = await history.usage_of("alice", 400)
    assert [day.total.prompt_tokens for day in found] == list(range(400))
    assert len(await history.usage_of("alice", 30)) == 30


@pytest.mark.parametrize("days", [0, -1, 401])
async def test_days_out_of_bounds_are_refused(history: UsageHistory, days: int) -> None:
    with pytest.raises(RequestMalformed):
        await history.usage_of("alice", days)


async def test_a_batch_counts_once_however_often_and_late_it_comes(history: UsageHistory) -> None:
    batches = [[("alice", DAY, "m", 1, number, 0)] for number in (1, 10, 100)]
    for number, batch in enumerate(batches, 1):
        await asyncio.gather(*(history.add("w", number, batch) for _ in range(10)))
        for earlier in range(1, number + 1):
            await history.add("w", earlier, batches[earlier - 1])
    assert await history.tokens_used("alice", DAY) == 111


async def test_many_writers_at_once_lose_nothing(history: UsageHistory) -> None:
    async def write(writer: str) -> None:
        for number in range(1, 26):
            await history.add(writer, number, [("alice", DAY, f"m{number % 3}", 1, 2, 3)])

    await asyncio.gather(*(write(f"w{i}") for i in range(8)))
    (today,) = await history.usage_of("alice", 1)
    assert today.total == UsageSum(200, 400, 600)


async def test_what_was_acknowledged_survives_kill_9_and_a_repetition_after_it(
    history: UsageHistory, ledger_server: RedisServer
) -> None:
    batch = [("alice", DAY, "m", 1, 7, 7)]
    await history.add("w", 1, batch)
    ledger_server.kill()
    ledger_server.start()
    await history.add("w", 1, batch)
    assert await history.tokens_used("alice", DAY) == 14


async def test_a_ledger_that_is_gone_is_told(ledger_server: RedisServer) -> None:
    ledger = Ledger(ledger_server.url, deadline_s=0.5)
    history = history_of(ledger)
    ledger_server.kill()
    with pytest.raises(LedgerUnavailable):
        await history.add("w", 1, [("alice", DAY, "m", 1, 1, 1)])
    with pytest.raises(LedgerUnavailable):
        await history.tokens_used("alice", DAY)
    with pytest.raises(LedgerUnavailable):
        await history.usage_of("alice", 7)
    await ledger.close()


async def test_a_month_is_forgotten_400_days_after_its_last_day(
    history: UsageHistory, ledger_server: RedisServer
) -> None:
    february = (date(2096, 2, 1) - date(1970, 1, 1)).days
    await history.add("w", 1, [("alice", DAY, "m", 1, 1, 1), ("bob", february, "m", 1, 1, 1)])
    await history.add("w", 2, [("alice", DAY + 1, "m", 1, 1, 1)])
    with redis.Redis.from_url(ledger_server.url) as client:
        ends = {
            (account, month): datetime.fromtimestamp(
                client.expiretime(redis_keys.usage(account, month)), UTC
            ).date()
            for account, month in (("alice", "2096-11"), ("bob", "2096-02"))
        }
    assert (ends["alice", "2096-11"] - date(2096, 11, 30)).days == 401
    assert (ends["bob", "2096-02"] - date(2096, 2, 29)).days == 401


async def test_a_day_costs_little_memory(history: UsageHistory, ledger_server: RedisServer) -> None:
    rows = [
        ("acct_0123456789abcdef01234567", DAY - d, "smollm2", 99, 99_999, 9_999) for d in range(24)
    ]
    await history.add("w", 1, rows)
    with redis.Redis.from_url(ledger_server.url) as client:
        key = redis_keys.usage(rows[0][0], "2096-11")
        assert client.memory_usage(key) <= 60 * len(rows)
