"""No body and no header makes the gateway fail, and the engine sees nothing of a refused one.

What the OpenAPI document says (schemathesis), and what it does not (hypothesis), over real HTTP.
The engine answers in this process's loop, so the requests are sent from a thread.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.request.request_policy import FIELDS
from tests.gateway_process import GatewayProcess
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine
from waitlist.directory import Directory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ENDPOINTS = sorted(FIELDS)
Operation = schemathesis.schemas.APIOperation[Any, Any, Any, Any]
# The same examples in every run; few, since each is a request of some milliseconds.
BOUNDED = settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


async def answer_known(request: EngineRequest) -> web.StreamResponse:
    """Refuses what the gateway must never let through; a 500 of it would become a 502."""
    body = json.loads(request.body)
    endpoint = request.raw.path.removeprefix("/v1/")
    known = {name for name, field in FIELDS[endpoint].items() if field.reaches_engine}
    assert set(body) <= known | {"store", "stream_options"}, body
    return web.json_response({"object": "answer", "usage": {}})


@pytest.fixture
def watched(engine: ScriptedEngine) -> ScriptedEngine:
    engine.script = answer_known
    return engine


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_engine_endpoints_are_as_the_document_says(
    gateway: GatewayProcess,
    watched: ScriptedEngine,
    api_key: str,
    endpoint: str,
    mode: GenerationMode,
) -> None:
    headers = {"authorization": f"Bearer {api_key}"}

    def run() -> None:
        schema = schemathesis.openapi.from_url(gateway.url + "/openapi.json")
        operation = schema[f"/v1/{endpoint}"]["POST"]

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case[Any]) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = MODEL
            before = len(watched.requests)
            answer = case.call(headers=headers)
            case.validate_response(
                answer,
                checks=[
                    status_code_conformance,
                    content_type_conformance,
                    response_schema_conformance,
                ],
            )
            assert answer.status_code < 500, answer.text
            assert len(watched.requests) - before == (answer.status_code == 200)

        send()

    await asyncio.to_thread(run)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/v1/models", GenerationMode.POSITIVE),
        ("/healthz", GenerationMode.POSITIVE),
        ("/v1/models/{model}", GenerationMode.POSITIVE),
        ("/invites/redeem", GenerationMode.POSITIVE),
        ("/invites/redeem", GenerationMode.NEGATIVE),
    ],
)
async def test_the_other_routes_never_fail(
    gateway: GatewayProcess, api_key: str, path: str, mode: GenerationMode
) -> None:
    def run() -> None:
        schema = schemathesis.openapi.from_url(gateway.url + "/openapi.json")
        (operation,) = schema[path].values()

        @BOUNDED
        @given(data=st.data())
        def send(data: st.DataObject) -> None:
            case = data.draw(operation.as_strategy(generation_mode=mode))
            answer = case.call(headers={"authorization": f"Bearer {api_key}"})
            assert answer.status_code < 500, answer.text

        send()

    await asyncio.to_thread(run)


# Whom each group of the waitlist's routes knows, and the settings under which it is there at all.
GROUPS = ("/v1/queue", "/keys", "/invites", "/waitlist", "/admin", "/account")
FEW = settings(BOUNDED, max_examples=8)


@pytest.mark.parametrize("group", GROUPS)
async def test_routes_for_people_and_operators_never_fail(
    start_gateway: Callable[..., GatewayProcess], directory: Directory, api_key: str, group: str
) -> None:
    """Every operation of the document, with a key that may call it."""
    owner = (await directory.admins.add("fuzz", "owner")).admin_key
    headers = {"authorization": f"Bearer {owner if group == '/admin' else api_key}"}

    def run(url: str) -> int:
        schema = schemathesis.openapi.from_url(url + "/openapi.json")
        found = [
            operation
            for path in schema
            if path == group or path.startswith(group + "/")
            for operation in schema[path].values()
        ]

        @FEW
        @given(data=st.data())
        def send(operation: Operation, data: st.DataObject) -> None:
            modes = list(GenerationMode) if operation.body else [GenerationMode.POSITIVE]
            mode = data.draw(st.sampled_from(modes))
            case = data.draw(operation.as_strategy(generation_mode=mode))
            answer = case.call(headers=headers, timeout=30)
            assert answer.status_code < 500, f"{operation.label}: {answer.text}"

        for operation in found:
            send(operation)
        return len(found)

    async with start_gateway(waitlist_secret="fuzz" * 8, join_proof_cost=0) as gateway:
        assert await asyncio.to_thread(run, gateway.url) > 0
        assert "unhandled" not in gateway.log


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
HEADER_VALUE = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=60)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_whatever_comes_is_answered_and_only_good_bodies_go_on(
    gateway: GatewayProcess, watched: ScriptedEngine, api_key: str, endpoint: str
) -> None:
    fields = st.dictionaries(
        st.sampled_from([*sorted(FIELDS[endpoint]), "priority", "cache_salt"])
        | st.text(max_size=8),
        JSON,
        max_size=5,
    )
    bodies = (
        st.binary(max_size=200)
        | fields.map(lambda made: json.dumps({"model": MODEL, **made}).encode())
        | st.text(alphabet='{}[]":,\\ud8e+-0.1N', max_size=80).map(str.encode)
    )
    headers = st.dictionaries(
        st.sampled_from(
            [
                "x-request-id",
                "x-forwarded-for",
                "forwarded",
                "content-type",
                "accept",
                "x-api-key",
                "x-floodgate-engine-secret",
                "expect",
                "range",
                "connection",
            ]
        ),
        HEADER_VALUE.map(lambda value: value.strip().encode("latin-1")),
        max_size=4,
    )

    def run() -> None:
        with httpx.Client(base_url=gateway.url, timeout=30) as client:

            @BOUNDED
            @given(body=bodies, extra=headers)
            def send(body: bytes, extra: dict[str, bytes]) -> None:
                before = len(watched.requests)
                given_headers = {name.encode(): value for name, value in extra.items()}
                given_headers[b"authorization"] = f"Bearer {api_key}".encode()
                answer = client.post(f"/v1/{endpoint}", content=body, headers=given_headers)
                assert answer.status_code < 500, answer.text
                assert len(watched.requests) - before == (answer.status_code == 200)
                if answer.status_code != 200:
                    assert answer.json()["error"]["message"]

            send()

    await asyncio.to_thread(run)
    assert "unhandled" not in gateway.log
