"""The line when its ledger dies: nothing acknowledged is lost, nothing is there twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.waitlist.conftest import DEADLINE_S, line_settings
from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.errors import LedgerUnavailable
from waitlist.line.join_request import JoinRequest

pytestmark = pytest.mark.integration

JOINERS = 8
KILLS = 3


async def until_acknowledged(call: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        try:
            return await call()
        except LedgerUnavailable:
            await asyncio.sleep(0.02)


async def test_kill_of_the_ledger_loses_no_acknowledged_place_and_keeps_the_order(
    tmp_path: Any, flow_server: RedisServer
) -> None:
    acknowledged: list[tuple[str, int]] = []
    stop = asyncio.Event()
    with RedisServer.ledger(tmp_path / "ledger") as ledger:
        async with open_directory(
            ledger.url, flow_server.url, deadline_s=DEADLINE_S, settings=line_settings()
        ) as line:

            async def join_on_and_on(joiner: int) -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    request = JoinRequest(f"j{joiner}.{number}@example.com")
                    joined = await until_acknowledged(
                        lambda request=request: line.entries.join(  # type: ignore[misc]
                            request, network="192.0.2.1", proof=None
                        )
                    )
                    acknowledged.append((joined.entry_id, joined.ahead))

            joiners = asyncio.gather(*map(join_on_and_on, range(JOINERS)))
            for _ in range(KILLS):
                enough = len(acknowledged) + 100
                while len(acknowledged) < enough:
                    await asyncio.sleep(0.005)
                ledger.kill()
                await asyncio.to_thread(ledger.start)
            stop.set()
            await joiners
            await assert_places_are_whole(line, acknowledged)


async def assert_places_are_whole(line: Directory, acknowledged: list[tuple[str, int]]) -> None:
    """Each acknowledged place is there, in the order in which places were acknowledged."""
    ids = [entry_id for entry_id, _ in acknowledged]
    assert len(set(ids)) == len(ids)
    ahead: dict[str, int] = {}
    for start in range(0, len(ids), 200):
        for entry in await line.entries.read_many(ids[start : start + 200]):
            assert entry is not None
            assert entry.state == "waiting"
            assert entry.ahead is not None
            ahead[entry.entry_id] = entry.ahead
    # Nobody leaves here, so the place that was told is the place for ever.
    assert [ahead[entry_id] for entry_id in ids] == [told for _, told in acknowledged]


async def test_release_that_the_ledger_dies_in_is_gone_on_with(
    tmp_path: Any, flow_server: RedisServer
) -> None:
    with RedisServer.ledger(tmp_path / "ledger") as ledger:
        async with open_directory(
            ledger.url, flow_server.url, deadline_s=DEADLINE_S, settings=line_settings()
        ) as line:
            rows = [{"email": f"person{i}@example.com"} for i in range(1500)]
            async for _ in line.imports.run("f" * 64, rows):
                pass
            batch_id = await line.releases.open(1000)
            work = asyncio.create_task(until_acknowledged(lambda: line.releases.work_off(batch_id)))
            while (await line.overview.line()).invited < 100:
                await asyncio.sleep(0.005)
            ledger.kill()
            await asyncio.to_thread(ledger.start)
            batch = await work
            assert (batch.released, batch.state) == (1000, "done")
            overview = await line.overview.line()
            assert (overview.invited, overview.in_line, overview.mails_waiting) == (1000, 500, 1000)
