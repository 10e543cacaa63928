"""POST /invites/redeem through FastAPI, on a real ledger."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.errors import WaitlistError
from waitlist.proofs import tokens
from waitlist.routes import build_router

pytestmark = pytest.mark.integration

JSON = {"content-type": "application/json"}


@pytest.fixture
async def client(directory: Directory) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(build_router(directory))

    @app.exception_handler(WaitlistError)
    async def render(request: Request, error: WaitlistError) -> JSONResponse:
        body = {"code": error.code, "message": error.message, "param": error.param}
        return JSONResponse(body, error.status_code)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gate"
    ) as client:
        yield client


@pytest.fixture
async def code(directory: Directory) -> str:
    [invite] = await directory.create_invites(1)
    return invite.code


async def test_code_becomes_a_key(
    client: httpx.AsyncClient, directory: Directory, code: str
) -> None:
    answer = await client.post("/invites/redeem", json={"code": code, "email": "ada@example.com"})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"account_id", "api_key", "key_id", "plan"}
    record = await directory.find_key(body["api_key"])
    assert record is not None
    assert (record.key_id, record.account_id) == (body["key_id"], body["account_id"])
    assert record.plan == body["plan"] == "free"


GOOD = {"code": tokens.new_code(), "email": "ada@example.com"}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param(b"", "invalid_request", None, id="empty"),
        pytest.param(b"{", "invalid_request", None, id="half a JSON"),
        pytest.param(b"code=x&email=y", "invalid_request", None, id="a form"),
        pytest.param(b"\xff\xfe{}", "invalid_request", None, id="no UTF-8"),
        pytest.param(b"[" * 8_000, "invalid_request", None, id="nested without end"),
        pytest.param(b"null", "invalid_request", None, id="null"),
        pytest.param(b"[]", "invalid_request", None, id="a list"),
        pytest.param(b'"text"', "invalid_request", None, id="a text"),
        pytest.param(b"NaN", "invalid_request", None, id="NaN"),
        pytest.param({}, "invalid_request", "code", id="nothing"),
        pytest.param({"code": GOOD["code"]}, "invalid_request", "email", id="no email"),
        pytest.param({"email": "ada@example.com"}, "invalid_request", "code", id="no code"),
        pytest.param({**GOOD, "plan": "pro"}, "invalid_request", "plan", id="extra field"),
        pytest.param({**GOOD, "x" * 5000: 1}, "invalid_request", "x" * 64, id="long extra field"),
        pytest.param({**GOOD, "code": None}, "invalid_request", "code", id="code null"),
        pytest.param({**GOOD, "code": 7}, "invalid_request", "code", id="code a number"),
        pytest.param({**GOOD, "code": True}, "invalid_request", "code", id="code a boolean"),
        pytest.param({**GOOD, "code": ["x"]}, "invalid_request", "code", id="code a list"),
        pytest.param({**GOOD, "code": {"$ne": 1}}, "invalid_request", "code", id="code an object"),
        pytest.param({**GOOD, "code": ""}, "invalid_request", "code", id="code empty"),
        pytest.param({**GOOD, "code": "x" * 129}, "invalid_request", "code", id="code long"),
        pytest.param({**GOOD, "code": "x" * 8000}, "invalid_request", "code", id="code huge"),
        pytest.param({**GOOD, "email": 7}, "invalid_request", "email", id="email a number"),
        pytest.param({**GOOD, "email": "a" * 255}, "invalid_request", "email", id="email long"),
        pytest.param(
            b'{"code":"\\ud800","email":"ada@example.com"}',
            "invalid_request",
            "code",
            id="surrogate",
        ),
        pytest.param({**GOOD, "code": "hello"}, "code_malformed", "code", id="no code at all"),
        pytest.param({**GOOD, "code": "fgi-" + "0" * 26}, "code_malformed", "code", id="checksum"),
        pytest.param({**GOOD, "code": "邀请码" * 9}, "code_malformed", "code", id="Chinese"),
        pytest.param({**GOOD, "code": "\u0000" * 30}, "code_malformed", "code", id="null bytes"),
        pytest.param({**GOOD, "code": "🎟" * 26}, "code_malformed", "code", id="emoji"),
        pytest.param({**GOOD, "email": "ada"}, "email_malformed", "email", id="no address"),
        pytest.param(
            {**GOOD, "email": "ada@\u0000.com"}, "email_malformed", "email", id="null byte"
        ),
        pytest.param(
            {**GOOD, "email": "a@b\r\nBcc: c@d.com"}, "email_malformed", "email", id="CRLF"
        ),
    ],
)
async def test_what_a_wrong_body_is_told(
    client: httpx.AsyncClient,
    ledger_server: RedisServer,
    body: bytes | dict[str, Any],
    code: str,
    param: str | None,
) -> None:
    """All of it is told without the ledger, and nothing that was sent is quoted."""
    ledger_server.kill()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.post("/invites/redeem", content=content, headers=JSON)
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert GOOD["code"] not in answer.text
    assert len(answer.content) < 500


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_body_that_is_not_called_json_is_refused(
    client: httpx.AsyncClient, code: str, content_type: str
) -> None:
    content = json.dumps({"code": code, "email": "ada@example.com"}).encode()
    answer = await client.post(
        "/invites/redeem", content=content, headers={"content-type": content_type}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_body_beyond_its_bound_is_refused_also_in_chunks(
    client: httpx.AsyncClient, ledger_server: RedisServer
) -> None:
    ledger_server.kill()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b"x" * 1024

    for content in (b"x" * 100_000, endless()):
        answer = await client.post("/invites/redeem", content=content, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert sent <= 10 * 1024


async def test_unicode_addresses_are_taken(client: httpx.AsyncClient, code: str) -> None:
    answer = await client.post("/invites/redeem", json={"code": code, "email": "用户@例子.广告"})
    assert answer.status_code == 201


async def test_each_state_of_a_code_has_its_own_answer(
    client: httpx.AsyncClient, directory: Directory, clock: Any
) -> None:
    used, other, withdrawn = await directory.create_invites(3)
    [expired] = await directory.create_invites(1, expires_in_s=1)
    await directory.redeem(used.code, "ada@example.com")
    await directory.revoke_invite(withdrawn.code)
    clock.advance(1)
    for code, email, status, error_code in (
        (used.code, "eve@example.com", 409, "code_used"),
        (other.code, "ada@example.com", 409, "email_has_account"),
        (expired.code, "eve@example.com", 410, "code_expired"),
        (withdrawn.code, "eve@example.com", 410, "code_revoked"),
        (tokens.new_code(), "eve@example.com", 404, "code_unknown"),
        (other.code, "eve@example.com", 201, None),
    ):
        answer = await client.post("/invites/redeem", json={"code": code, "email": email})
        assert (answer.status_code, answer.json().get("code")) == (status, error_code)


async def test_ledger_gone_is_503_and_the_code_stays_good(
    client: httpx.AsyncClient, ledger_server: RedisServer, code: str
) -> None:
    body = {"code": code, "email": "ada@example.com"}
    ledger_server.kill()
    answer = await client.post("/invites/redeem", json=body)
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
    assert "redis" not in answer.text.lower()
    ledger_server.start()
    assert (await client.post("/invites/redeem", json=body)).status_code == 201


async def test_refusal_by_a_layer_above_stays_its_own(directory: Directory) -> None:
    """As when it ends a body that comes too slowly."""

    class TooSlow(Exception):
        pass

    async def refuse() -> Any:
        raise TooSlow

    app = FastAPI()
    app.include_router(build_router(directory))
    scope = {"type": "http", "method": "POST", "path": "/invites/redeem", "query_string": b""}
    headers = [(b"content-type", b"application/json")]

    async def send(message: Any) -> None:
        pass

    with pytest.raises(TooSlow):
        await app({**scope, "headers": headers}, refuse, send)


async def test_route_is_documented(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/invites/redeem"]["post"]
    assert {"201", "400", "404", "409", "410", "503"} <= operation["responses"].keys()
