"""Known and unknown addresses cannot be told apart: by status, body or time, over 10,000 calls."""

import asyncio
import math
import random
import statistics
import time
from collections import defaultdict
from pathlib import Path

import httpx
import pytest

from tests.gateway_process import GatewayProcess
from tests.integration.waitlist.conftest import DEADLINE_S, SECRET, join, line_settings
from tests.integration.waitlist.test_waitlist_line_routes import Client
from tests.integration.waitlist.test_waitlist_line_routes import connect as connect
from tests.mail_server import MailServer
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import ScriptedEngine
from waitlist.directory import Directory, open_directory

pytestmark = pytest.mark.integration

CALLS = 10_000
KINDS = ("waiting", "invited", "redeemed", "left", "over its mail share")
# By chance alone the share of pairs in which one of two alike is slower lies within so many
# deviations of a half, but for one run in 1.7 million.
DEVIATIONS_MAX = 5.0
VARIABLE = {"ticket", "referral_code", "place", "ahead"}


async def make_known(directory: Directory, each: int) -> dict[str, list[str]]:
    """So many addresses of each kind."""
    known = {
        kind: [f"{kind.replace(' ', '-')}{i}@example.com" for i in range(each)] for kind in KINDS
    }
    imported = ("invited", "redeemed", "left", "waiting")
    emails = [email for kind in imported for email in known[kind]]
    async for _ in directory.imports.run("f" * 64, ({"email": email} for email in emails)):
        pass
    ids = [directory.signer.entry_id_of("f" * 64, row) for row in range(1, len(emails) + 1)]
    batch = await directory.releases.release(2 * each)
    for entry_id, email in zip(ids[each : 2 * each], known["redeemed"], strict=True):
        await directory.redeem(directory.signer.code(entry_id, batch.batch_id), email)
    for entry_id in ids[2 * each : 3 * each]:
        ticket = directory.signer.read(directory.signer.owner_ticket(entry_id))
        await directory.departures.leave(ticket)
    for email in known["over its mail share"]:
        for _ in range(3):
            await join(directory, email)
    return known


async def joined_by_time(
    client: httpx.AsyncClient, known: dict[str, list[str]], fresh: list[str]
) -> dict[str, list[float]]:
    """Seconds of each join by kind, in random order; all else must be the same."""
    order = [(kind, email) for kind, emails in known.items() for email in emails]
    order += [("fresh", email) for email in fresh]
    random.Random(7).shuffle(order)
    seconds: dict[str, list[float]] = defaultdict(list)
    shapes = set()
    for kind, email in order:
        began_at = time.perf_counter()
        answer = await client.post("/waitlist/join", json={"email": email})
        seconds[kind].append(time.perf_counter() - began_at)
        body = answer.json()
        changing = ("content-length", "date", "x-request-id")
        headers = {name: text for name, text in answer.headers.items() if name not in changing}
        fixed = {name: value for name, value in body.items() if name not in VARIABLE}
        lengths = (len(body["ticket"]), len(body["referral_code"]))
        shapes.add((answer.status_code, str(headers), str(fixed), lengths))
    assert len(shapes) == 1, shapes
    return seconds


def deviations_apart(one: list[float], other: list[float]) -> float:
    """How far two are apart, in standard deviations of what chance does (Mann-Whitney).

    It is the share of pairs in which a value of `one` is above one of `other`, less a half.
    """
    ranked = sorted([(value, 1) for value in one] + [(value, 0) for value in other])
    rank_sum = sum(rank for rank, (_, mine) in enumerate(ranked, start=1) if mine)
    share = (rank_sum - len(one) * (len(one) + 1) / 2) / (len(one) * len(other))
    deviation = math.sqrt((len(one) + len(other) + 1) / (12 * len(one) * len(other)))
    return abs(share - 0.5) / deviation


def assert_time_tells_nothing(seconds: dict[str, list[float]]) -> None:
    fresh = seconds.pop("fresh")
    apart = {kind: deviations_apart(values, fresh) for kind, values in seconds.items()}
    every = [value for values in seconds.values() for value in values]
    apart["any of them"] = deviations_apart(every, fresh)
    assert max(apart.values()) <= DEVIATIONS_MAX, apart
    # The measure sees what is there: known addresses that took a tenth longer would be told.
    more = statistics.median(every) / 10
    assert deviations_apart([value + more for value in every], fresh) > DEVIATIONS_MAX
    for kind, values in seconds.items():
        slower = [value + 2 * more for value in values]
        assert deviations_apart(slower, fresh) > DEVIATIONS_MAX, kind


async def test_known_and_unknown_addresses_are_answered_alike(
    connect: Client, mailed_line: Directory
) -> None:
    known = await make_known(mailed_line, 4)
    fresh = [f"fresh{i}@example.com" for i in range(20)]
    await joined_by_time(connect(mailed_line), known, fresh)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_time_tells_nothing(
    ledger_server: RedisServer,
    flow_server: RedisServer,
    mail_server: MailServer,
    tmp_path: Path,
) -> None:
    """Through a real gateway that sends its mails meanwhile."""
    settings = {"smtp_url": mail_server.url, "mail_from": "Gate <gate@gate.example>"}
    fresh = [f"fresh{i}@example.com" for i in range(CALLS // 2)]
    async with (
        open_directory(
            ledger_server.url,
            flow_server.url,
            deadline_s=DEADLINE_S,
            settings=line_settings(**settings),
        ) as line,
        ScriptedEngine() as engine,
        GatewayProcess(
            tmp_path,
            ledger_url=ledger_server.url,
            flow_url=flow_server.url,
            upstream_url=engine.url,
            slots=1,
            plans_file=write_plans(tmp_path),
            waitlist_secret=SECRET,
            join_proof_cost=0,
            joins_per_network_hour=1_000_000,
            **settings,
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        known = await make_known(line, CALLS // 2 // len(KINDS))
        while await line.outbox.waiting():  # out of the way before the measurement
            await asyncio.sleep(0.1)
        assert_time_tells_nothing(await joined_by_time(client, known, fresh))
