"""Known and unknown addresses cannot be told apart: by status, body or time, over 10,000 calls."""

import random
import time
from collections import defaultdict

import httpx
import pytest

from tests.integration.waitlist.conftest import confirmed
from tests.integration.waitlist.test_waitlist_line_routes import Client
from tests.integration.waitlist.test_waitlist_line_routes import connect as connect
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

CALLS = 10_000
# The share of pairs in which the known address took longer: a half where nothing is told. With
# 5,000 calls each its deviation is 0.0058 by chance alone; five of them are allowed.
ADVANTAGE_MAX = 0.029
VARIABLE = {"ticket", "referral_code", "place", "ahead"}


async def joined_by_time(
    client: httpx.AsyncClient, known: list[str], fresh: list[str]
) -> dict[str, list[float]]:
    """Seconds of each join, known and fresh ones in random order; all else must be the same."""
    order = [("known", email) for email in known] + [("fresh", email) for email in fresh]
    random.Random(7).shuffle(order)
    seconds: dict[str, list[float]] = defaultdict(list)
    shapes = set()
    for kind, email in order:
        began_at = time.perf_counter()
        answer = await client.post("/waitlist/join", json={"email": email})
        seconds[kind].append(time.perf_counter() - began_at)
        body = answer.json()
        headers = {name: text for name, text in answer.headers.items() if name != "content-length"}
        fixed = {name: value for name, value in body.items() if name not in VARIABLE}
        lengths = (len(body["ticket"]), len(body["referral_code"]))
        shapes.add((answer.status_code, str(headers), str(fixed), lengths))
    assert len(shapes) == 1
    return seconds


def share_slower(one: list[float], other: list[float]) -> float:
    """The share of pairs in which a value of `one` is above one of `other` (Mann-Whitney)."""
    ranked = sorted([(value, 1) for value in one] + [(value, 0) for value in other])
    rank_sum = sum(rank for rank, (_, mine) in enumerate(ranked, start=1) if mine)
    return (rank_sum - len(one) * (len(one) + 1) / 2) / (len(one) * len(other))


async def test_known_and_unknown_addresses_are_answered_alike(
    connect: Client, mailed_line: Directory
) -> None:
    known = [f"known{i}@example.com" for i in range(20)]
    for email in known:
        await confirmed(mailed_line, email)
    fresh = [f"fresh{i}@example.com" for i in range(20)]
    await joined_by_time(connect(mailed_line), known, fresh)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_time_tells_nothing(connect: Client, mailed_line: Directory) -> None:
    known = [f"known{i}@example.com" for i in range(CALLS // 2)]
    rows = [{"email": email} for email in known]
    async for _ in mailed_line.imports.run("f" * 64, rows):
        pass
    fresh = [f"fresh{i}@example.com" for i in range(CALLS // 2)]
    seconds = await joined_by_time(connect(mailed_line), known, fresh)
    share = share_slower(seconds["known"], seconds["fresh"])
    assert abs(share - 0.5) <= ADVANTAGE_MAX
    # The measure sees what is there: 0.1 ms more is told at once.
    slower = [value + 0.0001 for value in seconds["known"]]
    assert share_slower(slower, seconds["fresh"]) > share
