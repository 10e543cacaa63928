"""From joining to a chat, over real gateway processes, a real mail server and a real ledger."""

import asyncio
import json
import re
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.gateway_process import GatewayProcess
from tests.mail_server import MailServer
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL
from waitlist.directory import Directory, open_directory
from waitlist.release.release_store import ReleaseStore
from waitlist.settings import WaitlistSettings
from waitlist.storage.ledger import Ledger

pytestmark = pytest.mark.integration

SECRET = secrets.token_urlsafe(32)


@pytest.fixture
def mail_server() -> Any:
    with MailServer() as server:
        yield server


@pytest.fixture
async def gate(
    start_gateway: Callable[..., GatewayProcess], mail_server: MailServer
) -> AsyncIterator[GatewayProcess]:
    settings = {
        "waitlist_secret": SECRET,
        "smtp_url": mail_server.url,
        "mail_from": "Gate <gate@gate.example>",
        "join_proof_cost": 0,
        "joins_per_network_hour": 1_000_000,
        "workers": 2,
    }
    async with start_gateway(**settings) as running:
        yield running


@pytest.fixture
async def operators(
    ledger_server: RedisServer, flow_server: RedisServer
) -> AsyncIterator[Directory]:
    """As a command opens it."""
    settings = WaitlistSettings(waitlist_secret=SECRET)
    async with open_directory(
        ledger_server.url, flow_server.url, actor="test", deadline_s=30, settings=settings
    ) as directory:
        yield directory


async def mail_to(server: MailServer, address: str, number: int) -> str:
    """The text of that address's mail of that number, once it has arrived."""
    while len(server.to(address)) < number:
        await asyncio.sleep(0.02)
    text: str = server.to(address)[number - 1].get_content()
    return text


async def test_from_joining_to_a_chat(
    gate: GatewayProcess, mail_server: MailServer, operators: Directory
) -> None:
    async with httpx.AsyncClient(base_url=gate.url, timeout=30) as client:
        joined = await client.post("/waitlist/join", json={"email": "ada@example.com"})
        assert joined.status_code == 201
        assert joined.json()["place"] == 1
        text = await mail_to(mail_server, "ada@example.com", 1)
        ticket = text.split("#ticket=")[1].split()[0]
        confirmed = await client.post("/waitlist/confirm", json={"ticket": ticket})
        assert confirmed.json()["confirmed"] is True
        told = []
        url = "/waitlist/status/stream"
        async with client.stream("GET", url, params={"ticket": ticket}, timeout=60) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if not line.startswith("data: "):
                    continue
                told.append(json.loads(line.removeprefix("data: "))["status"])
                if told == ["waiting"]:
                    await operators.releases.release(1)
                elif told[-1] == "invited":
                    text = await mail_to(mail_server, "ada@example.com", 2)
                    code = text.split("#code=")[1].split()[0]
                    order = {"code": code, "email": "ada@example.com"}
                    wrong = await client.post(
                        "/invites/redeem", json={**order, "email": "eve@example.com"}
                    )
                    assert (wrong.status_code, wrong.json()["error"]["code"]) == (403, "code_bound")
                    redeemed = await client.post("/invites/redeem", json=order)
                    assert redeemed.status_code == 201
        assert told == ["waiting", "invited", "redeemed"]  # and the stream has ended by itself
        headers = {"authorization": f"Bearer {redeemed.json()['api_key']}"}
        chat = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
        answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
        assert answer.status_code == 200
        await client.post("/keys/report-leak", json={"secret": redeemed.json()["api_key"]})
        answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "revoked_api_key")
    while '"code":"revoked_api_key"' not in gate.log:  # the last line
        await asyncio.sleep(0.02)
    for secret in ("ada@", "example.com", "fgo-", "fgt-", "fgi-", ticket):
        assert secret not in gate.log


async def test_people_are_let_in_by_themselves_as_far_as_the_engines_have_room(
    start_gateway: Callable[..., GatewayProcess], operators: Directory, ledger_server: RedisServer
) -> None:
    """The leader is killed on the way; its successor decides anew."""
    settings = {
        "waitlist_secret": SECRET,
        "join_proof_cost": 0,
        "joins_per_network_hour": 1_000,
        "release_automatic": True,
        "slots": 64,
    }
    async with (
        start_gateway(**settings) as first,
        httpx.AsyncClient(base_url=first.url, timeout=30) as client,
    ):
        tickets = []
        for number in range(40):
            body = {"email": f"person{number}@example.com"}
            tickets.append((await client.post("/waitlist/join", json=body)).json()["ticket"])
        first.workers()[0].send_signal(signal.SIGKILL)  # with it goes the lease, and what it knew
        await first.until_ready()
        headers = {"authorization": f"Bearer {tickets[0]}"}
        while True:
            status = (await client.get("/waitlist/status", headers=headers)).json()
            if status["status"] == "invited":
                break
            await asyncio.sleep(0.05)
        code = status["code"]
        order = {"code": code, "email": "person0@example.com"}
        key = (await client.post("/invites/redeem", json=order)).json()["api_key"]
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {key}"}
        answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
        assert answer.status_code == 200
        while "first_request" not in [e.fields["action"] async for e in operators.overview.audit()]:
            await asyncio.sleep(0.05)
    ledger = Ledger(ledger_server.url, deadline_s=30)
    decisions = [d for d in await ReleaseStore(ledger).newest_decisions(10) if d.decision.batch]
    await ledger.close()
    assert [d.decision.inputs.capacity_slots for d in decisions] == [64]
    assert decisions[0].released == decisions[0].decision.batch
    assert (await operators.overview.line()).in_line == 40 - decisions[0].decision.batch


async def test_metrics_count_the_line_without_naming_anybody(
    start_gateway: Callable[..., GatewayProcess], operators: Directory
) -> None:
    settings = {"waitlist_secret": SECRET, "join_proof_cost": 0, "release_automatic": True}
    await operators.overview.pause("releasing", paused=True)
    async with (
        start_gateway(**settings, workers=2) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):
        for name in ("ada", "bob", "cyd"):
            await client.post("/waitlist/join", json={"email": f"{name}@example.com"})
        await operators.overview.pause("releasing", paused=False)
        await operators.releases.release(1)

        async def counted() -> list[float]:
            names = [
                'waitlist_people{state="waiting"}',
                'waitlist_people{state="invited"}',
                'waitlist_mails{state="held"}',
                "release_leader",
            ]
            return [await gateway.metric(f"floodgate_{re.escape(name)}") for name in names]

        # Automatic release may let the others in, too: all three are somewhere.
        while sum((await counted())[:2]) != 3 or (await counted())[3] != 1:
            await asyncio.sleep(0.1)
        while (await counted())[2] == 0:  # there is no mail server
            await asyncio.sleep(0.1)
        assert "example.com" not in (await client.get("/metrics")).text


async def test_joins_count_for_the_network_that_a_trusted_proxy_names(
    start_gateway: Callable[..., GatewayProcess],
) -> None:
    settings = {
        "waitlist_secret": SECRET,
        "join_proof_cost": 0,
        "joins_per_network_hour": 1,
        "trusted_proxies": "127.0.0.0/8",
    }
    async with (
        start_gateway(**settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):

        async def join(email: str, address: str) -> int:
            headers = {"x-forwarded-for": address}
            body = {"email": email}
            return (await client.post("/waitlist/join", json=body, headers=headers)).status_code

        assert await join("ada@example.com", "192.0.2.7") == 201
        assert await join("bob@example.com", "198.51.100.7") == 201, "another network"
        assert await join("eve@example.com", "192.0.2.8") == 429, "the first one's network"


async def test_errors_have_the_gates_shape_and_say_when_to_come_back(
    gate: GatewayProcess, operators: Directory, ledger_server: RedisServer
) -> None:
    async with httpx.AsyncClient(base_url=gate.url, timeout=30) as client:
        await operators.overview.pause("joining", paused=True)
        answer = await client.post("/waitlist/join", json={"email": "ada@example.com"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "waitlist_paused"
        assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("60", "true")
        for path, status, code in (
            ("/admin/overview", 401, "invalid_admin_key"),
            ("/waitlist/status", 401, "ticket_invalid"),
            ("/keys", 401, "missing_api_key"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        ledger_server.kill()
        answer = await client.post("/waitlist/join", json={"email": "ada@example.com"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    for code in ("waitlist_paused", "invalid_admin_key", "ledger_unavailable"):
        while f'"code":"{code}"' not in gate.log:  # a line is written behind its answer
            await asyncio.sleep(0.02)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_workers_killed_while_mails_go_out_lose_none(
    gate: GatewayProcess, mail_server: MailServer, operators: Directory
) -> None:
    """kill -9 while the mail server holds mails open; leases end, and others send them."""
    mail_server.hold.set()
    addresses = {f"person{number}@example.com" for number in range(30)}
    async with httpx.AsyncClient(base_url=gate.url, timeout=60) as client:
        for address in addresses:
            answer = await client.post("/waitlist/join", json={"email": address})
            assert answer.status_code == 201
    while mail_server.held == 0:
        await asyncio.sleep(0.02)
    for worker in gate.workers():
        worker.send_signal(signal.SIGKILL)
    mail_server.hold.clear()
    while set(mail_server.recipients) != addresses:
        await asyncio.sleep(0.1)
    while await operators.outbox.waiting():
        await asyncio.sleep(0.1)
    # A mail that the server took while its sender died came twice, under one id.
    assert len({mail["Message-ID"] for mail in mail_server.mails}) == len(addresses)
