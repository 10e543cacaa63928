"""Conversations find the replica that has their prefix: in the line, and before two engines."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.engines.replica_record import Replica
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Granted, Passage, SlotAsk, Ticket
from loadtests.stack.simulator_process import SimulatorProcess
from tests.gateway_callers import caller
from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

POOL = "m"
KEYS = redis_keys.pool(POOL)
PATH = "/v1/chat/completions"
# Two conversations as the line knows them.
TALK, OTHER = "00000000000000aa", "00000000000000bb"


@pytest.fixture
async def line(flow: FlowRedis) -> AsyncIterator[PoolLine]:
    """A worker's side of a line in front of two replicas with two slots each."""
    bounds = LineBounds(tickets_max=100, wait_s_max=300, bytes_max=1 << 30)
    made = PoolLine(flow, POOL, f"{1:012x}", bounds, time.monotonic)
    made.lease.replicas = {name: replica(name) for name in ("a", "b")}
    yield made
    await made.lease.stop()


def replica(name: str, slots: int = 2) -> Replica:
    return Replica(
        model=POOL, replica_id=name, url="http://127.0.0.1:1", state="running", slots=slots
    )


async def enter(line: PoolLine, prefix: str = "", *, avoid: str | None = None) -> Ticket:
    passage = Passage(was_granted=avoid is not None, avoid=avoid)
    return await line.enter(SlotAsk("x", 100, 1000, 1000, prefix=prefix), passage)


async def granted(ticket: Ticket) -> str:
    news = await ticket.next_news()
    assert isinstance(news, Granted)
    return news.replica_id


async def run_once(line: PoolLine, prefix: str = "", *, avoid: str | None = None) -> str:
    """The replica that a request got, which is over."""
    name = await granted(await enter(line, prefix, avoid=avoid))
    await release(line, name)
    return name


async def release(line: PoolLine, name: str) -> None:
    line.release(name, "x")
    sending = line.lease._calls._sending
    assert sending is not None
    await sending


async def held_on_b(line: PoolLine, prefix: str) -> None:
    """Begins a conversation on b, which nothing but a busier a leads to; all is free then."""
    busy = await granted(await enter(line))
    assert (busy, await run_once(line, prefix)) == ("a", "b")
    await release(line, busy)


async def test_a_conversation_returns_to_its_replica_though_another_has_more_room(
    line: PoolLine,
) -> None:
    await held_on_b(line, TALK)
    assert await run_once(line, OTHER) == "a"
    busy = await granted(await enter(line, TALK))
    assert busy == "b"
    assert await run_once(line, TALK) == "b", "a is empty, b half full"
    assert await run_once(line, OTHER) == "a"


async def test_a_conversation_does_not_wait_for_its_replica_and_is_remembered_anew(
    line: PoolLine,
) -> None:
    await held_on_b(line, TALK)
    busy = [await granted(await enter(line, TALK)) for _ in range(3)]
    assert busy == ["b", "b", "a"]
    for name in busy:
        await release(line, name)
    assert await run_once(line, TALK) == "a"


async def test_requests_that_begin_alike_and_come_at_once_spread_over_the_replicas(
    line: PoolLine,
) -> None:
    line.lease.replicas = {name: replica(name, slots=16) for name in ("a", "b")}
    names = [await granted(await enter(line, TALK)) for _ in range(16)]
    # Two of sixteen slots are an eighth: a is up to three ahead, then b.
    assert names[:4] == ["a", "a", "a", "b"]
    assert 6 <= names.count("a") <= 10


async def test_a_conversation_leaves_a_replica_that_is_gone(line: PoolLine) -> None:
    await held_on_b(line, TALK)
    del line.lease.replicas["b"]
    await line.lease.renew()
    assert await run_once(line, TALK) == "a"
    line.lease.replicas["b"] = replica("b")
    await line.lease.renew()
    assert await run_once(line, TALK) == "a"


async def test_a_replica_that_gave_no_answer_is_avoided_by_its_own_conversations_too(
    line: PoolLine,
) -> None:
    await held_on_b(line, TALK)
    assert await run_once(line, TALK, avoid="b") == "a"


async def test_who_waited_in_line_gets_the_conversations_replica_when_it_has_room(
    line: PoolLine,
) -> None:
    await held_on_b(line, TALK)
    busy = [await granted(await enter(line, OTHER)) for _ in range(4)]
    waiting = await enter(line, TALK)
    assert waiting.granted is None
    # One call frees both replicas: a, which nothing else would pass over, and b.
    line.release("a", "x")
    line.release("b", "x")
    assert await granted(waiting) == "b"
    assert sorted(busy) == ["a", "a", "b", "b"]


async def test_a_conversations_replica_is_forgotten_after_ten_minutes(
    line: PoolLine, state: Any
) -> None:
    await held_on_b(line, TALK)
    key = f"{KEYS}:prefix:{TALK}"
    assert await state.get(key) == "b"
    assert 590 < await state.ttl(key) <= 600
    await enter(line)
    assert [name async for name in state.scan_iter(f"{KEYS}:prefix:*")] == [key]


async def test_tickets_and_calls_of_a_version_without_digests_are_served(
    line: PoolLine, flow: FlowRedis, state: Any
) -> None:
    busy = [await granted(await enter(line)) for _ in range(4)]
    ticket = "1790000000000-000000000002-00000000"
    await state.zadd(KEYS + ":leases", {"000000000002": 99_999_999_999_999})
    arguments = ("000000000002", ticket, "y", "100.0", 9, 9, 100, "-", 1000, "new")
    assert await flow.run("enter_line", (KEYS,), arguments) == [0, ""]
    tickets = KEYS + ":worker:000000000002:tickets"
    assert await state.hget(tickets, ticket) == "y 100.0 9 -|9|0|"
    await release(line, busy[0])
    assert await state.hget(KEYS + ":worker:000000000002:grants", ticket) == f"{busy[0]} y"


async def test_a_ticket_with_a_digest_is_read_by_a_version_without(
    line: PoolLine, state: Any
) -> None:
    for _ in range(4):
        await enter(line)
    ticket = await enter(line, TALK)
    packed = await state.hget(f"{KEYS}:worker:{1:012x}:tickets", ticket.id)
    assert packed.split(" ") == ["x", "100.000000", "1000", f"-|1000|0|{TALK}"], (
        "four words, as before"
    )


# In front of two engines ------------------------------------------------------------------------

SLOTS = 4
CONVERSATIONS, TURNS = 4, 4


@pytest.fixture
def simulator(tmp_path: Path, flow_server: RedisServer) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(
        tmp_path, profile="instant", replicas=2, slots=SLOTS, flow_url=flow_server.url
    ) as running:
        yield running


@pytest.fixture
def start(start_gateway: Callable[..., GatewayProcess]) -> Callable[..., GatewayProcess]:
    return lambda **settings: start_gateway(upstream_url="", **settings)


async def until(condition: Callable[[], bool]) -> None:
    while not await asyncio.to_thread(condition):
        await asyncio.sleep(0.02)


async def both_replicas_are_known(gateway: GatewayProcess) -> None:
    while await gateway.metric(r"floodgate_slots_capacity\{") != 2 * SLOTS:
        await asyncio.sleep(0.05)


def turn(name: str, number: int) -> dict[str, object]:
    """The body of a conversation's turn: each adds a question and repeats all before."""
    messages = [{"role": "system", "content": f"You are {name}. " * 40}]
    for n in range(number + 1):
        messages += [{"role": "user", "content": f"{name} asks question {n}. " * 20}]
        messages += [{"role": "assistant", "content": f"The answer is {n}. " * 20}]
    return {"model": "simulated", "messages": messages[:-1], "max_tokens": 2}


async def hit_rate(
    gateway: GatewayProcess, simulator: SimulatorProcess, api_key: str, kind: str
) -> float:
    """The prefix cache's hits over all turns of some conversations that run at the same time.

    In each turn they come in another order, so that what has most room is not what they had.
    """
    await both_replicas_are_known(gateway)
    before = [simulator.total(f"prefix_{name}_tokens") for name in ("hit", "query")]
    async with caller(gateway, api_key) as client:
        for number in range(TURNS):
            await asyncio.to_thread(simulator.inject, "stall", duration_s=3600)
            calls = []
            for place in range(CONVERSATIONS):
                arrived = simulator.total("arrived")
                body = turn(f"{kind}-{(place + number) % CONVERSATIONS}", number)
                calls.append(asyncio.create_task(client.post(PATH, json=body)))

                def has_arrived(arrived: float = arrived) -> bool:
                    return simulator.total("arrived") > arrived

                await until(has_arrived)
            await asyncio.to_thread(simulator.inject, "clear")
            assert {(await call).status_code for call in calls} == {200}
            while await gateway.metric(r"floodgate_slots_held\{"):
                await asyncio.sleep(0.05)
    hit, query = (
        simulator.total(f"prefix_{name}_tokens") - was
        for name, was in zip(("hit", "query"), before, strict=True)
    )
    return hit / query


async def test_conversations_find_more_of_their_prefix_than_by_room_alone(
    start: Callable[..., GatewayProcess], api_key: str, simulator: SimulatorProcess
) -> None:
    async with start() as gateway:
        with_affinity = await hit_rate(gateway, simulator, api_key, "with")
    async with start(prefix_affinity="false") as gateway:
        by_room = await hit_rate(gateway, simulator, api_key, "without")
    # Each turn but the first finds all of the turn before, but for the end of a block.
    asked = [len(_text(turn("with-0", number))) for number in range(TURNS)]
    best = sum(asked[:-1]) / sum(asked)
    print(f"hit rate with affinity {with_affinity:.2f} of {best:.2f}, by room {by_room:.2f}")
    assert with_affinity == pytest.approx(best, abs=0.05)
    assert by_room < with_affinity - 0.1


def _text(body: dict[str, Any]) -> str:
    return "".join(message["content"] for message in body["messages"])


async def test_a_conversation_goes_on_when_its_replica_has_crashed(
    start: Callable[..., GatewayProcess], api_key: str, simulator: SimulatorProcess
) -> None:
    async with start() as gateway, caller(gateway, api_key) as client:
        await both_replicas_are_known(gateway)
        assert (await ask(client, 0)).status_code == 200
        (had,) = (r for r in simulator.stats() if r["arrived"])
        await asyncio.to_thread(simulator.inject, "crash", [had["index"]])
        for number in (1, 2):
            assert (await ask(client, number)).status_code == 200
        arrived = {replica["index"]: replica["arrived"] for replica in simulator.stats()}
        assert arrived == {had["index"]: 1, 1 - had["index"]: 2}


async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.post(PATH, json=turn("someone", number))
