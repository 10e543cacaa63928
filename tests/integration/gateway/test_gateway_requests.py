"""Requests through the real gateway processes: what passes, what is refused, in which words."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
from aiohttp import web

from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.running_floodgate import floodgate
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine
from waitlist.directory import Directory
from waitlist.proofs.tokens import new_api_key

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


async def test_a_request_reaches_the_engine_written_anew(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    body = '{"model": "scripted",  "messages":[{"role":"user","content":"ä"}], "user": "u"}'
    answer = await client.post(PATH, content=body, headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200
    assert answer.json()["object"] == "chat.completion"
    assert answer.headers["x-request-id"] == "mine-1"
    seen = await engine.request(0)
    asked = orjson.loads(seen.body)
    assert asked.pop("max_completion_tokens") > 0, "the answer's reserved length"
    assert asked == {"model": "scripted", "messages": [{"role": "user", "content": "ä"}]}
    assert seen.headers["x-request-id"] == "mine-1"
    assert seen.headers["x-request-disconnect-disabled"] == "?1"


async def test_large_bodies_are_judged_beside_the_loop_and_pass(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    text = 'a "quoted" {text}, ' * 100_000
    answer = await client.post(PATH, json={**CHAT, "messages": [{"role": "user", "content": text}]})
    assert answer.status_code == 200
    assert json.loads((await engine.request(0)).body)["messages"][0]["content"] == text
    answer = await client.post(PATH, content=b'{"model":"scripted","messages":[' + b"{}," * 500_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_values")


async def test_metrics_are_for_this_machine_and_not_for_whom_a_proxy_asks(
    start_gateway: Callable[..., GatewayProcess],
) -> None:
    forwarded = {"x-forwarded-for": "192.0.2.7"}
    async with (
        start_gateway() as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/metrics", headers=forwarded)).status_code == 401
    async with (
        start_gateway(trusted_proxies="127.0.0.0/8") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):
        assert (await client.get("/metrics", headers=forwarded)).status_code == 401
        assert (await client.get("/metrics")).status_code == 200
        spoofed = {"x-forwarded-for": "127.0.0.1, 192.0.2.7"}
        assert (await client.get("/metrics", headers=spoofed)).status_code == 401
        while gateway.log.count('"/metrics"') < 5:  # a line is written behind its answer
            await asyncio.sleep(0.02)
        lines = [json.loads(line) for line in gateway.log.splitlines() if "/metrics" in line]
        assert [line["client"] for line in lines[-3:]] == ["192.0.2.7", "127.0.0.1", "192.0.2.7"]


async def test_callers_headers_and_keys_never_reach_the_engine(
    client: httpx.AsyncClient, engine: ScriptedEngine, api_key: str
) -> None:
    await client.post(PATH, json=CHAT, headers={"x-evil": "1", "cookie": "a=b", "te": "trailers"})
    seen = await engine.request(0)
    assert not {"x-evil", "cookie", "te", "authorization"} & {name.lower() for name in seen.headers}
    assert api_key not in str(seen.headers)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "missing_api_key"),
        ("sk-not-ours", "malformed_api_key"),
        ("unknown", "invalid_api_key"),
    ],
)
async def test_wrong_keys_get_401_each_with_its_own_code(
    gateway: GatewayProcess, directory: Directory, key: str | None, code: str
) -> None:
    if key == "unknown":
        key = new_api_key()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as stranger:
        for path in (PATH, "/v1/completions", "/v1/responses", "/v1/embeddings"):
            answer = await stranger.post(path, json=CHAT, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
        answer = await stranger.post("/v1/messages", json=CHAT, headers=headers)
        assert answer.json()["error"]["type"] == "authentication_error"
        assert (await stranger.get("/v1/models", headers=headers)).status_code == 401


async def test_one_mistyped_letter_is_caught_without_redis(
    client: httpx.AsyncClient, api_key: str, gateway: GatewayProcess
) -> None:
    typo = api_key[:-1] + ("a" if api_key[-1] != "a" else "b")
    answer = await client.post(PATH, json=CHAT, headers={"authorization": f"Bearer {typo}"})
    assert answer.json()["error"]["code"] == "malformed_api_key"


async def test_a_revocation_holds_from_the_next_request_on_in_every_worker(
    start_gateway: Callable[..., GatewayProcess], directory: Directory, api_key: str
) -> None:
    async with start_gateway(workers=3) as gateway:
        headers = {"authorization": f"Bearer {api_key}", "connection": "close"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client:
            for _ in range(20):
                assert (await client.post(PATH, json=CHAT)).status_code == 200
            record = await directory.find_key(api_key)
            assert record is not None
            await directory.revoke_key(record.key_id)
            for _ in range(20):
                answer = await client.post(PATH, json=CHAT)
                assert answer.status_code == 401
                assert answer.json()["error"]["code"] == "revoked_api_key"


async def test_bad_requests_are_refused_in_openais_shape(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    for body, code in (
        (b"{", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'{"messages":[]}', "missing_model"),
        (b'{"model":"m"}', "missing_parameter"),
        (b'{"model":"m","messages":[{"role":"user","content":"hi"}]}', "model_not_found"),
    ):
        answer = await client.post(PATH, content=body)
        error = answer.json()["error"]
        assert (error["code"], set(error)) == (code, {"message", "type", "param", "code"})
        assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert engine.requests == []


async def test_what_is_not_listed_is_not_there(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("POST", "/v1/load_lora_adapter"),
        ("GET", "/"),
        ("POST", "/v1//chat/completions"),
    ):
        answer = await client.request(method, path, json=CHAT)
        assert answer.status_code == 404, path
        assert answer.json()["error"]["code"] == "unknown_url"
    answer = await client.get(PATH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_rate_headers_and_429(
    start_gateway: Callable[..., GatewayProcess], api_key: str, tmp_path: Path
) -> None:
    plans_file = write_plans(tmp_path / "plans", requests_per_minute=3)
    async with (
        start_gateway(plans_file=plans_file, workers=2) as gateway,
        httpx.AsyncClient(
            base_url=gateway.url,
            headers={"authorization": f"Bearer {api_key}", "connection": "close"},
            timeout=30,
        ) as client,
    ):
        answers = [await client.post(PATH, json=CHAT) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers["x-ratelimit-remaining-requests"] for a in answers] == list("2100")
        assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
        refused = answers[3]
        assert refused.json()["error"]["code"] == "rate_limit_requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert refused.headers["x-should-retry"] == "true"
        # The other worker's metrics are up to a second old.
        counted = r'floodgate_refused_total\{model="scripted",plan="free",reason="%s"\}'
        while await gateway.metric(counted % "rate_limit_requests") != 1:
            await asyncio.sleep(0.05)
        tokens = rf'floodgate_tokens_\w+_total\{{.*model="{MODEL}",plan="free"'
        assert await gateway.metric(tokens) > 0


async def test_embeddings_pass_and_are_settled_to_the_engines_count(
    client: httpx.AsyncClient, engine: ScriptedEngine, directory: Directory, api_key: str
) -> None:
    made = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}],
        "usage": {"prompt_tokens": 4321, "total_tokens": 4321},
    }

    async def embed(request: EngineRequest) -> web.StreamResponse:
        return web.json_response(made)

    engine.script = embed
    asked = {"model": MODEL, "input": ["hello"], "encoding_format": "float"}
    answer = await client.post("/v1/embeddings", json=asked)
    assert (answer.status_code, answer.json()) == (200, made)
    seen = await engine.request(0)
    assert (seen.raw.path, orjson.loads(seen.body)) == ("/v1/embeddings", asked)
    record = await directory.find_key(api_key)
    assert record is not None
    while not (days := await directory.usage.usage_of(record.account_id, 2)):
        await asyncio.sleep(0.02)
    (day,) = days
    assert (day.total.requests, day.total.tokens) == (1, 4321)


async def test_the_command_runs_the_gateway_alone(
    start_gateway: Callable[..., GatewayProcess], api_key: str
) -> None:
    """As people run it who have an engine already. Its options win over the environment."""
    gateway = start_gateway(port=1, workers=1)
    gateway.command = (floodgate(), "gateway", "--port", str(gateway.port), "--workers", "2")
    async with gateway, httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        assert len(gateway.workers()) == 2
        answer = await client.post(PATH, json=CHAT, headers={"authorization": f"Bearer {api_key}"})
        assert answer.status_code == 200
        assert answer.json()["object"] == "chat.completion"


async def test_models_are_listed_and_found(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert (await client.get(f"/v1/models/{MODEL}")).json()["object"] == "model"
    missing = await client.get("/v1/models/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_redeeming_over_http(gateway: GatewayProcess, directory: Directory) -> None:
    (invite,) = await directory.create_invites(1, "free")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as stranger:
        bad = await stranger.post("/invites/redeem", json={"code": invite.code, "email": "nope"})
        assert (bad.status_code, bad.json()["error"]["param"]) == (400, "email")
        order = {"code": invite.code, "email": "new@example.com"}
        answer = await stranger.post("/invites/redeem", json=order)
        assert answer.status_code == 201, answer.text
        key = answer.json()["api_key"]
        chat = await stranger.post(PATH, json=CHAT, headers={"authorization": f"Bearer {key}"})
        assert chat.status_code == 200
        again = await stranger.post("/invites/redeem", json={**order, "email": "x@example.com"})
        assert again.status_code == 409


async def test_no_secret_is_ever_logged(
    gateway: GatewayProcess, client: httpx.AsyncClient, api_key: str, directory: Directory
) -> None:
    (invite,) = await directory.create_invites(1, "free")
    await client.post("/invites/redeem", json={"code": invite.code, "email": "p@example.com"})
    await client.post(PATH, json={**CHAT, "messages": [{"role": "user", "content": "my-prompt"}]})
    await client.post(PATH, content=b'{"my-prompt', headers={"x-request-id": "the-last-one"})
    while "the-last-one" not in gateway.log:
        await asyncio.sleep(0.01)
    for secret in (api_key, invite.code, "my-prompt", "p@example.com"):
        assert secret not in gateway.log


async def test_health_readiness_and_metrics(gateway: GatewayProcess, api_key: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        report = (await client.get("/readyz")).json()
        assert report["ready"] is True
        assert (report["ledger"], report["flow"]) == ("ok", "ok")
        assert report["engine"]["models"][MODEL]["replicas_running"] == 1
        counted = r'floodgate_requests_total{.*chat/completions.*status="200"'
        before = await gateway.metric(counted)
        await client.post(PATH, json=CHAT, headers={"authorization": f"Bearer {api_key}"})
    assert await gateway.metric(counted) == before + 1
    for redis in ("flow", "ledger"):
        assert await gateway.metric(rf'floodgate_redis_seconds_count{{.*redis="{redis}"') > 0


async def test_metrics_add_up_over_workers(
    start_gateway: Callable[..., GatewayProcess], api_key: str
) -> None:
    async with start_gateway(workers=3) as gateway:
        headers = {"authorization": f"Bearer {api_key}", "connection": "close"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client:
            for _ in range(30):
                await client.post(PATH, json=CHAT)
        counted = r'floodgate_requests_total{.*chat/completions.*"200"'
        while await gateway.metric(counted) < 30:  # each worker writes its counts once a second
            await asyncio.sleep(0.02)
        for _ in range(5):  # whichever worker answers
            assert await gateway.metric(counted) == 30


async def test_a_metrics_token_is_asked_for_once_it_is_set(
    start_gateway: Callable[..., GatewayProcess],
) -> None:
    async with (
        start_gateway(metrics_token="let-me-in") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):
        assert (await client.get("/metrics")).status_code == 401
        answer = await client.get("/metrics", headers={"authorization": "Bearer let-me-in"})
        assert answer.status_code == 200


async def test_the_openapi_document_describes_the_engine_endpoints(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    for path in (PATH, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"):
        operation = document["paths"][path]["post"]
        assert (
            "model" in operation["requestBody"]["content"]["application/json"]["schema"]["required"]
        )
        assert {"200", "401", "429", "503"} <= set(operation["responses"])
    assert "/invites/redeem" in document["paths"]
