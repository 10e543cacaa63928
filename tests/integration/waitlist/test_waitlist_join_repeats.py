"""Joins that are sent again under their Idempotency-Key: one place, one proof, one count."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.waitlist.conftest import DEADLINE_S, Clock, TwiceLedger, line_settings
from tests.integration.waitlist.test_waitlist_line_routes import Client, bearer, solve
from tests.integration.waitlist.test_waitlist_line_routes import client as client
from tests.integration.waitlist.test_waitlist_line_routes import connect as connect
from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.holders.revocations import Tombstones
from waitlist.storage.acting_ledger import ActingLedger

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[Directory]]
ADA = {"email": "ada@example.com"}


async def join_with(client: httpx.AsyncClient, key: str, **body: Any) -> httpx.Response:
    return await client.post(
        "/waitlist/join", json={**ADA, **body}, headers={"idempotency-key": key}
    )


async def test_repeated_join_gets_the_same_place_and_counts_once(
    connect: Client, open_line: Open, clock: Clock, ledger_state: Any
) -> None:
    line = await open_line(joins_per_network_hour=2, smtp_url="smtp://127.0.0.1:1")
    client, key = connect(line), str(uuid4())
    first = await join_with(client, key, note="hello", locale="zh", consent=True)
    assert first.status_code == 201
    for _ in range(5):
        clock.advance(600)
        again = await join_with(client, key, note="hello", locale="zh", consent=True)
        assert (again.status_code, again.json()) == (201, first.json())
    # A second join still fits the network's share of two, and its mailbox's mail goes out.
    other = await join_with(client, str(uuid4()))
    assert other.json()["ticket"] != first.json()["ticket"]
    assert (await join_with(client, str(uuid4()))).status_code == 429
    assert (await join_with(client, key, note="hello", locale="zh", consent=True)).json() == (
        first.json()
    )
    [today] = await line.overview.days(1)
    assert today.counts["joined"] == 2
    assert [entry for entry in ledger_state.records("entry").values() if "mute" in entry] == []


async def test_repeated_join_tells_the_place_as_it_is_now(
    client: httpx.AsyncClient, line: Directory, clock: Clock
) -> None:
    key = str(uuid4())
    before = (await client.post("/waitlist/join", json={"email": "first@example.com"})).json()
    joined = (await join_with(client, key)).json()
    assert joined["place"] == 2
    clock.advance(1)
    await line.departures.leave(line.signer.read(before["ticket"]))
    again = (await join_with(client, key)).json()
    assert (again["ticket"], again["place"]) == (joined["ticket"], 1)
    await line.releases.release(1)
    again = (await join_with(client, key)).json()
    assert (again["ticket"], again["status"], again["place"]) == (joined["ticket"], "invited", None)


async def test_many_at_once_with_one_key_make_one_place(
    client: httpx.AsyncClient, line: Directory, ledger_state: Any
) -> None:
    for number in range(20):
        key, email = str(uuid4()), f"person{number}@example.com"
        answers = await asyncio.gather(*(join_with(client, key, email=email) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["ticket"] for answer in answers}) == 1
    assert len(ledger_state.records("entry")) == 20
    assert (await line.overview.line()).in_line == 20


async def test_lost_answer_costs_no_second_proof(
    ledger_server: RedisServer, flow_server: RedisServer, connect: Client
) -> None:
    """On the real clock: ALTCHA looks at it by itself."""
    settings = line_settings(join_proof_cost=5)
    async with open_directory(
        ledger_server.url, flow_server.url, deadline_s=DEADLINE_S, settings=settings
    ) as line:
        client, key = connect(line), str(uuid4())
        proof = solve((await client.get("/waitlist/challenge")).json())
        joined = await join_with(client, key, altcha=proof)
        assert joined.status_code == 201
        # The same proof, none, and one that nobody takes, as one that has ended meanwhile.
        for body in ({"altcha": proof}, {}, {"altcha": "nonsense"}):
            again = await join_with(client, key, **body)
            assert (again.status_code, again.json()) == (201, joined.json())
        fresh = solve((await client.get("/waitlist/challenge")).json())
        assert (await join_with(client, key, altcha=fresh)).json() == joined.json()
        # The repeat did not spend it, and a key alone gets nobody in.
        for proof_of_other, status in ((proof, 400), (None, 400), (fresh, 201), (fresh, 400)):
            body = {} if proof_of_other is None else {"altcha": proof_of_other}
            answer = await join_with(client, str(uuid4()), **body)
            assert answer.status_code == status, answer.text
            assert status == 201 or answer.json()["code"] == "proof_invalid"


@pytest.mark.parametrize(
    "other",
    [
        {"email": "eve@example.com"},
        {"note": "another"},
        {"locale": "zh"},
        {"consent": True},
        {"referral": "A" * 12},
    ],
)
async def test_key_with_another_body_is_refused(
    client: httpx.AsyncClient, other: dict[str, Any], ledger_state: Any
) -> None:
    key = str(uuid4())
    assert (await join_with(client, key)).status_code == 201
    refused = await join_with(client, key, **other)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(ledger_state.records("entry")) == 1


async def test_answer_is_repeated_for_a_day_and_while_joining_is_paused(
    client: httpx.AsyncClient, line: Directory, clock: Clock
) -> None:
    key = str(uuid4())
    joined = await join_with(client, key)
    await line.overview.pause("joining", paused=True)
    clock.advance(86_399)
    assert (await join_with(client, key)).json() == joined.json()
    clock.advance(1)
    late = await join_with(client, key)
    assert (late.status_code, late.json()["code"]) == (422, "idempotency_key_reused")


async def test_place_that_was_erased_is_not_repeated(
    client: httpx.AsyncClient, ledger_state: Any
) -> None:
    key = str(uuid4())
    ticket = (await join_with(client, key)).json()["ticket"]
    await client.post("/waitlist/erase", json={"ticket": ticket})
    answer = await join_with(client, key)
    assert (answer.status_code, answer.json()["code"]) == (410, "place_gone")
    [entry] = ledger_state.records("entry").values()
    assert "email" not in entry


@pytest.mark.parametrize("key", ["1", "x" * 15, "ada@example.com-join", "ADA@example.com-join"])
async def test_keys_that_strangers_guess_are_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await join_with(client, key)
    assert (answer.status_code, answer.json()["param"]) == (400, "Idempotency-Key")


async def test_stranger_with_another_key_is_told_nothing(
    connect: Client, mailed_line: Directory
) -> None:
    client = connect(mailed_line)
    mine = (await join_with(client, str(uuid4()))).json()
    theirs = (await join_with(client, str(uuid4()))).json()
    variable = {"ticket", "referral_code", "place", "ahead"}
    assert {k: v for k, v in mine.items() if k not in variable} == {
        k: v for k, v in theirs.items() if k not in variable
    }
    assert mine["ticket"] != theirs["ticket"]


async def test_key_of_a_mailed_join_never_gives_the_owners_ticket(
    connect: Client, open_line: Open
) -> None:
    """Also not once the operator has taken the mail server away."""
    key = str(uuid4())
    mailed = await open_line(smtp_url="smtp://127.0.0.1:1")
    watch = (await join_with(connect(mailed), key)).json()
    plain = (await join_with(connect(await open_line()), key)).json()
    assert (watch["ticket"][:4], plain["ticket"][:4]) == ("fgt-", "fgo-")
    assert plain["referral_code"] != watch["referral_code"]


async def test_repeats_of_a_script_that_is_sent_twice_agree(
    ledger_server: RedisServer, flow_server: RedisServer, clock: Clock, connect: Client
) -> None:
    ledger = TwiceLedger(ledger_server.url, deadline_s=DEADLINE_S)
    tombstones = Tombstones(flow_server.url, deadline_s=DEADLINE_S)
    acting = ActingLedger(ledger, clock=clock, actor="test")
    line = Directory(acting, tombstones, line_settings(), clock=clock)
    client, key = connect(line), str(uuid4())
    joined = await join_with(client, key)
    clock.advance(1)
    assert (await join_with(client, key)).json() == joined.json()
    status = await client.get("/waitlist/status", headers=bearer(joined.json()["ticket"]))
    assert status.json()["place"] == 1
    await ledger.close()
    await tombstones.close()
