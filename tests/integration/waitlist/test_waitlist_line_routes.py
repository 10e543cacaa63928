"""The line over HTTP, through FastAPI on a real ledger."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import altcha
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.integration.waitlist.conftest import confirmed, join
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.errors import WaitlistError
from waitlist.routes import build_router

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[Directory]]
Client = Callable[[Directory], httpx.AsyncClient]


def app_of(directory: Directory) -> FastAPI:
    app = FastAPI()
    app.include_router(
        build_router(
            directory,
            directory.watch_board(),
            known_models=lambda: {"org/m": 4, "org/unkept": None},
        )
    )

    @app.exception_handler(WaitlistError)
    async def render(request: Request, error: WaitlistError) -> JSONResponse:
        body = {"code": error.code, "message": error.message, "param": error.param}
        headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s else {}
        return JSONResponse(body, error.status_code, headers)

    return app


@pytest.fixture
async def connect() -> AsyncIterator[Client]:
    clients = []

    def make(directory: Directory) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app_of(directory))
        client = httpx.AsyncClient(transport=transport, base_url="http://gate")
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(connect: Client, line: Directory) -> httpx.AsyncClient:
    return connect(line)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_joining_answers_place_and_ticket_and_the_ticket_watches(
    client: httpx.AsyncClient, line: Directory
) -> None:
    await join(line, "first@example.com")
    answer = await client.post("/waitlist/join", json={"email": "ada@example.com", "locale": "zh"})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["status"], body["place"], body["ahead"]) == ("waiting", 2, 1)
    assert body["estimate"] is None
    for kwargs in ({"headers": bearer(body["ticket"])}, {"params": {"ticket": body["ticket"]}}):
        status = await client.get("/waitlist/status", **kwargs)
        assert status.status_code == 200
        assert status.json() == {**{k: body[k] for k in body if k != "ticket"}, "code": None}


async def test_invited_without_mail_server_sees_the_code_and_redeems_it(
    client: httpx.AsyncClient, line: Directory
) -> None:
    ticket = (await client.post("/waitlist/join", json={"email": "ada@example.com"})).json()[
        "ticket"
    ]
    await line.releases.release(1)
    status = (await client.get("/waitlist/status", headers=bearer(ticket))).json()
    assert (status["status"], status["place"]) == ("invited", None)
    assert status["invite_expires_at"] is not None
    order = {"code": status["code"], "email": "ada@example.com"}
    redeemed = await client.post("/invites/redeem", json=order)
    assert redeemed.status_code == 201
    status = (await client.get("/waitlist/status", headers=bearer(ticket))).json()
    assert (status["status"], status["code"]) == ("redeemed", None)


async def test_code_is_not_shown_where_a_mail_server_sends_it(
    connect: Client, mailed_line: Directory
) -> None:
    ticket = await confirmed(mailed_line, "ada@example.com")
    await mailed_line.releases.release(1)
    status = await connect(mailed_line).get("/waitlist/status", headers=bearer(ticket))
    assert (status.json()["status"], status.json()["code"]) == ("invited", None)


async def test_known_and_unknown_addresses_get_the_same_answers(
    connect: Client, mailed_line: Directory
) -> None:
    """Status, headers, fields and lengths; the times are measured in test_waitlist_enumeration."""
    client = connect(mailed_line)
    await confirmed(mailed_line, "known@example.com")
    answers = [
        await client.post("/waitlist/join", json={"email": email})
        for email in ("known@example.com", "fresh@example.com")
    ]
    known, fresh = answers
    assert known.status_code == fresh.status_code == 201
    assert known.headers == fresh.headers
    variable = {"ticket", "referral_code", "place", "ahead"}
    fixed = [{k: v for k, v in a.json().items() if k not in variable} for a in answers]
    assert fixed[0] == fixed[1]
    assert [len(a.json()["ticket"]) for a in answers] == [38, 38]
    assert [a.json()["place"] for a in answers] == [2, 3]


async def test_confirming_leaving_and_erasing(connect: Client, mailed_line: Directory) -> None:
    client = connect(mailed_line)
    joined = (await client.post("/waitlist/join", json={"email": "ada@example.com"})).json()
    assert joined["confirmed"] is False
    refused = await client.post("/waitlist/confirm", json={"ticket": joined["ticket"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "ticket_insufficient")
    owner = mailed_line.signer.owner_ticket(joined["referral_code"])
    confirmation = await client.post("/waitlist/confirm", json={"ticket": owner})
    assert confirmation.status_code == 200
    assert (confirmation.json()["confirmed"], confirmation.json()["ticket"]) == (True, owner)
    for path in ("/waitlist/leave", "/waitlist/erase"):
        assert (await client.post(path, json={"ticket": joined["ticket"]})).status_code == 403
        answer = await client.post(path, json={"ticket": owner})
        assert (answer.status_code, answer.json()) == (200, {"status": "left"})


@pytest.mark.parametrize("ticket", ["", "fgt-nothing", "x" * 38, "fgo-" + "A" * 34])
async def test_tickets_that_are_none_are_refused_without_the_ledger(
    client: httpx.AsyncClient, ledger_server: RedisServer, ticket: str
) -> None:
    ledger_server.kill()
    for path in ("/waitlist/status", "/waitlist/status/stream"):
        answer = await client.get(path, headers=bearer(ticket))
        assert (answer.status_code, answer.json()["code"]) == (401, "ticket_invalid")
    if ticket:
        answer = await client.post("/waitlist/leave", json={"ticket": ticket})
        assert (answer.status_code, answer.json()["code"]) == (401, "ticket_invalid")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "email"),
        ({"email": "a@example.com", "plan": "x"}, "invalid_request", "plan"),
        ({"email": "a@example.com", "consent": "yes"}, "invalid_request", "consent"),
        ({"email": "a@example.com", "note": "n" * 201}, "invalid_request", "note"),
        ({"email": "a@example.com", "locale": "xx"}, "invalid_request", "locale"),
        ({"email": "a@example.com", "referral": "../../etc"}, "invalid_request", "referral"),
        ({"email": "nobody"}, "email_malformed", "email"),
        ({"email": "a@mailinator.com"}, "email_disposable", "email"),
    ],
)
async def test_what_a_wrong_join_is_told(
    client: httpx.AsyncClient, body: dict[str, Any], code: str, param: str
) -> None:
    answer = await client.post("/waitlist/join", json=body)
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)


async def test_pause_and_full_network_are_told_with_when_to_come_back(
    connect: Client, open_line: Open
) -> None:
    line = await open_line(joins_per_network_hour=1)
    client = connect(line)
    await client.post("/waitlist/join", json={"email": "a@example.com"})
    answer = await client.post("/waitlist/join", json={"email": "b@example.com"})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_joins")
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    await line.overview.pause("joining", paused=True)
    answer = await client.post("/waitlist/join", json={"email": "b@example.com"})
    assert (answer.status_code, answer.json()["code"]) == (503, "waitlist_paused")


def solve(challenge: dict[str, Any]) -> str:
    made = altcha.Challenge.from_dict(challenge)
    solution = altcha.solve_challenge(made)
    assert solution is not None
    return altcha.Payload(made, solution).to_base64()


async def test_proof_of_work_is_wanted_checked_and_good_once(
    ledger_server: RedisServer, flow_server: RedisServer, connect: Client
) -> None:
    """On the real clock: ALTCHA looks at it by itself."""
    from tests.integration.waitlist.conftest import DEADLINE_S, line_settings
    from waitlist.directory import open_directory

    settings = line_settings(join_proof_cost=5)
    async with open_directory(
        ledger_server.url, flow_server.url, deadline_s=DEADLINE_S, settings=settings
    ) as line:
        client = connect(line)

        async def join_with(payload: str | None) -> tuple[int, str | None]:
            body = {"email": "ada@example.com"} | ({} if payload is None else {"altcha": payload})
            answer = await client.post("/waitlist/join", json=body)
            return answer.status_code, answer.json().get("code")

        challenge = (await client.get("/waitlist/challenge")).json()
        good = solve(challenge)
        forged = json.loads(base64.b64decode(good))
        forged["challenge"]["parameters"]["keyPrefix"] = ""
        dear = json.loads(base64.b64decode(good))
        dear["challenge"]["parameters"]["cost"] = 10**9
        for payload in (None, "", "nonsense", base64.b64encode(b"[]").decode(), "x" * 4096):
            assert await join_with(payload) == (400, "proof_invalid")
        for document in (forged, dear):
            payload = base64.b64encode(json.dumps(document).encode()).decode()
            assert await join_with(payload) == (400, "proof_invalid")
        assert await join_with(good) == (201, None)
        assert await join_with(good) == (400, "proof_invalid")
        assert await join_with(solve((await client.get("/waitlist/challenge")).json())) == (
            201,
            None,
        )


async def test_ledger_gone_is_503_and_places_are_kept(
    client: httpx.AsyncClient, ledger_server: RedisServer
) -> None:
    joined = (await client.post("/waitlist/join", json={"email": "ada@example.com"})).json()
    ledger_server.kill()
    for answer in (
        await client.post("/waitlist/join", json={"email": "bob@example.com"}),
        await client.get("/waitlist/status", headers=bearer(joined["ticket"])),
        await client.post("/waitlist/leave", json={"ticket": joined["ticket"]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
        assert answer.headers["retry-after"] == "5"
    ledger_server.start()
    status = await client.get("/waitlist/status", headers=bearer(joined["ticket"]))
    assert status.json()["place"] == 1


class Stream:
    """A status stream read straight from the application, as a server would."""

    def __init__(self, app: FastAPI, ticket: str) -> None:
        self._app = app
        self._ticket = ticket
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._hang_up = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/waitlist/status/stream",
            "query_string": f"ticket={self._ticket}".encode(),
            "headers": [],
        }

        async def receive() -> Any:
            await self._hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            for event in message.get("body", b"").split(b"\n\n"):
                if event.startswith(b"event: status\ndata: "):
                    self.events.put_nowait(json.loads(event.split(b"data: ")[1]))

        await self._app(scope, receive, send)

    async def hang_up(self) -> None:
        self._hang_up.set()
        await self._task

    async def ended(self) -> None:
        await self._task


async def test_stream_tells_each_change_and_ends_with_the_place(line: Directory) -> None:
    board = line.watch_board()
    app = FastAPI()
    app.include_router(build_router(line, board))
    first, second = [await join(line, f"{name}@example.com") for name in ("ada", "bob")]
    stream = Stream(app, second.ticket)
    assert (await stream.events.get())["place"] == 2
    await board.tell_all()
    assert stream.events.empty()  # nothing changed
    await line.departures.leave(line.signer.read(first.ticket))
    await board.tell_all()
    assert (await stream.events.get())["place"] == 1
    await line.releases.release(1)
    await board.tell_all()
    assert (await stream.events.get())["status"] == "invited"
    await line.departures.leave(line.signer.read(second.ticket))
    await board.tell_all()
    assert (await stream.events.get())["status"] == "left"
    await stream.ended()


async def test_streams_are_bounded_and_give_their_room_back(
    open_line: Open, connect: Client
) -> None:
    line = await open_line(watchers_max=2)
    app = app_of(line)
    joined = await join(line, "ada@example.com")
    streams = [Stream(app, joined.ticket) for _ in range(2)]
    for stream in streams:
        await stream.events.get()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gate"
    ) as client:
        url = f"/waitlist/status/stream?ticket={joined.ticket}"
        answer = await client.get(url)
        assert (answer.status_code, answer.json()["code"]) == (503, "watchers_full")
    await streams[0].hang_up()
    third = Stream(app, joined.ticket)
    assert (await third.events.get())["status"] == "waiting"
    for stream in (streams[1], third):
        await stream.hang_up()


# An account and its keys


async def test_account_manages_its_keys_and_invites(
    client: httpx.AsyncClient, line: Directory
) -> None:
    [invite] = await line.create_invites(1)
    account = await line.redeem(invite.code, "ada@example.com")
    own = bearer(account.api_key)
    made = (await client.post("/keys", json={"name": "ci"}, headers=own)).json()
    rotated = await client.post(
        f"/keys/{made['key_id']}/rotate", json={"overlap_s": 60}, headers=own
    )
    assert rotated.status_code == 201
    listed = (await client.get("/keys", headers={"x-api-key": account.api_key})).json()
    assert listed["account_id"] == account.account_id
    states = {key["key_id"]: (key["state"], key["current"]) for key in listed["keys"]}
    assert states == {
        account.key_id: ("live", True),
        made["key_id"]: ("rotated", False),
        rotated.json()["key_id"]: ("live", False),
    }
    assert (await client.delete(f"/keys/{made['key_id']}", headers=own)).status_code == 204
    gone = await client.get("/keys", headers=bearer(made["api_key"]))
    assert (gone.status_code, gone.json()["code"]) == (401, "revoked_api_key")
    assert (await client.delete("/keys/key_none", headers=own)).status_code == 404
    none_left = await client.post("/invites", headers=own)
    assert (none_left.status_code, none_left.json()["code"]) == (409, "no_invites_left")
    await line.accounts.grant_invites(account.account_id, 1)
    shared = (await client.post("/invites", headers=own)).json()
    assert shared["invites_left"] == 0
    order = {"code": shared["code"], "email": "bob@example.com"}
    assert (await client.post("/invites/redeem", json=order)).status_code == 201
    mine = (await client.get("/invites", headers=own)).json()
    assert (mine["guests"], [i["state"] for i in mine["invites"]]) == (1, ["used"])
    assert (await client.delete("/account", headers=own)).status_code == 204
    assert (await client.get("/keys", headers=own)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        (bearer("fg-mistyped"), "malformed_api_key"),
        ({"authorization": "Basic eA=="}, "missing_api_key"),
    ],
)
async def test_keys_want_a_key(
    client: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    for method, path in (("GET", "/keys"), ("POST", "/invites"), ("DELETE", "/keys/key_1")):
        answer = await client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_leaked_secrets_are_revoked(client: httpx.AsyncClient, line: Directory) -> None:
    used, leaked = await line.create_invites(2)
    account = await line.redeem(used.code, "ada@example.com")

    async def report(secret: str) -> tuple[int, str]:
        answer = await client.post("/keys/report-leak", json={"secret": secret})
        return answer.status_code, answer.json().get("revoked") or answer.json()["code"]

    assert await report(account.api_key) == (200, "api_key")
    assert await report(account.api_key) == (200, "api_key")
    assert (await client.get("/keys", headers=bearer(account.api_key))).status_code == 401
    assert await report(leaked.code) == (200, "invite_code")
    assert await report(used.code) == (409, "code_used")
    assert await report("fg-nonsense") == (400, "invalid_request")
    assert await report("nonsense") == (400, "code_malformed")


async def test_idempotency_key_gives_the_same_answer(
    client: httpx.AsyncClient, line: Directory
) -> None:
    [invite] = await line.create_invites(1)
    order = {"code": invite.code, "email": "ada@example.com"}
    answers = [
        await client.post("/invites/redeem", json=order, headers={"idempotency-key": "k-1"})
        for _ in range(2)
    ]
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    other = {**order, "email": "eve@example.com"}
    refused = await client.post("/invites/redeem", json=other, headers={"idempotency-key": "k-1"})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


async def test_line_is_not_offered_without_a_secret(directory: Directory, connect: Client) -> None:
    answer = await connect(directory).post("/waitlist/join", json={"email": "a@example.com"})
    assert answer.status_code == 404
