"""Aliases and canaries through the real gateway processes, in front of an engine of two models."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import orjson
import pytest

from gateway.errors import FileUnusable
from gateway.server import run
from gateway.settings import GatewaySettings
from tests.gateway_callers import caller
from tests.gateway_process import GatewayProcess
from tests.plans_file import replace_file, write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import ScriptedEngine
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
Start = Callable[..., GatewayProcess]


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    """An engine of its own, since the gateway that tests share asks theirs for its models."""
    async with ScriptedEngine(models=("stable", "next")) as running:
        yield running


@pytest.fixture
def start(start_gateway: Start) -> Start:
    """A gateway with two workers, in front of the models `stable` and `next`."""
    return lambda **settings: start_gateway(**{"workers": 2, **settings})


def write_routes(folder: Path, routes: object) -> Path:
    """JSON is YAML."""
    path = folder / "routes.yaml"
    replace_file(path, json.dumps(routes))
    return path


async def new_keys(directory: Directory, count: int) -> list[str]:
    """Each of an account of its own."""
    invites = await directory.create_invites(count, "free")
    addresses = (f"someone{number}@example.com" for number in range(count))
    pairs = zip(invites, addresses, strict=True)
    return [(await directory.redeem(i.code, address)).api_key for i, address in pairs]


async def ask(client: httpx.AsyncClient, model: str) -> httpx.Response:
    # On a connection of its own, so that both workers have some.
    body = {"model": model, "messages": MESSAGES}
    return await client.post(PATH, json=body, headers={"connection": "close"})


async def model_at_the_engine(client: httpx.AsyncClient, engine: ScriptedEngine, model: str) -> str:
    seen = len(engine.requests)
    answer = await ask(client, model)
    assert answer.status_code == 200, answer.text
    found: str = orjson.loads(engine.requests[seen].body)["model"]
    return found


async def test_an_alias_reaches_its_model_on_every_endpoint_and_is_counted_as_that(
    start: Start, api_key: str, directory: Directory, engine: ScriptedEngine, tmp_path: Path
) -> None:
    bodies: dict[str, dict[str, object]] = {
        PATH: {"messages": MESSAGES},
        "/v1/completions": {"prompt": "hello"},
        "/v1/responses": {"input": "hello"},
        "/v1/messages": {"messages": MESSAGES, "max_tokens": 8},
        "/v1/embeddings": {"input": "hello"},
    }
    routes_file = write_routes(tmp_path, {"moss": "stable"})
    async with start(routes_file=routes_file) as gateway, caller(gateway, api_key) as client:
        for path, body in bodies.items():
            answer = await client.post(path, json={"model": "moss", **body})
            assert answer.status_code == 200, path
        models = {orjson.loads(request.body)["model"] for request in engine.requests}
        assert models == {"stable"}
        record = await directory.find_key(api_key)
        assert record is not None
        while True:
            days = await directory.usage.usage_of(record.account_id, 2)
            if sum(day.total.requests for day in days) == len(bodies):
                break
            await asyncio.sleep(0.05)
        assert {model for day in days for model in day.by_model} == {"stable"}
        reserved = r'floodgate_tokens_reserved_total\{.*model="stable"'
        assert await gateway.metric(reserved) > 0
        assert await gateway.metric(r'.*model="moss"') == 0


async def test_an_account_stays_on_one_side_of_a_canary_whichever_worker_it_asks(
    start: Start, directory: Directory, engine: ScriptedEngine, tmp_path: Path
) -> None:
    routes_file = write_routes(tmp_path, {"chat": {"stable": 50, "next": 50}})
    async with start(routes_file=routes_file) as gateway:
        sides: list[str] = []
        for key in await new_keys(directory, 24):
            async with caller(gateway, key) as client:
                got = {await model_at_the_engine(client, engine, "chat") for _ in range(4)}
            assert len(got) == 1
            sides += got
    # All of them on one side: once in eight million runs, were the ids not what decides.
    assert set(sides) == {"stable", "next"}


async def test_an_edited_file_holds_without_a_restart_and_a_broken_one_is_refused(
    start: Start, api_key: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    routes_file = write_routes(tmp_path, {"chat": {"stable": 1, "next": 0}})
    async with start(routes_file=routes_file) as gateway, caller(gateway, api_key) as client:
        assert await model_at_the_engine(client, engine, "chat") == "stable"
        replace_file(routes_file, "chat:\n  stable: all\n")
        while gateway.log.count("routes_refused") < 2:
            await asyncio.sleep(0.02)
        assert f"{routes_file}:2: 'chat', stable: the weight must be a number" in gateway.log
        assert await model_at_the_engine(client, engine, "chat") == "stable"
        write_routes(tmp_path, {"chat": {"stable": 0, "next": 1}})
        while await model_at_the_engine(client, engine, "chat") != "next":
            await asyncio.sleep(0.02)


async def test_names_are_listed_with_what_they_stand_for_when_something_serves_it(
    start: Start, api_key: str, tmp_path: Path
) -> None:
    routes = {"chat": {"stable": 95, "gone": 5}, "later": "not-served-yet", "next": "stable"}
    routes_file = write_routes(tmp_path, routes)
    async with start(routes_file=routes_file) as gateway, caller(gateway, api_key) as client:
        cards = (await client.get("/v1/models")).json()["data"]
        assert [card["id"] for card in cards] == ["chat", "next", "stable"]
        alias, _, model = cards
        assert {**alias, "id": "stable"} == model
        assert (await client.get("/v1/models/chat")).json() == alias
        assert (await client.get("/v1/models/later")).status_code == 404
        answer = await ask(client, "later")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert "'later'" in answer.json()["error"]["message"]
        # `gone` is passed over, whoever asks.
        assert (await ask(client, "chat")).status_code == 200


async def test_a_plan_that_has_a_name_has_what_it_stands_for_and_by_that_name_alone(
    start: Start, api_key: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    settings = {
        "routes_file": write_routes(tmp_path, {"chat": "next", "other": "stable"}),
        "plans_file": write_plans(tmp_path / "plans", models=["chat", "stable"]),
    }
    async with start(**settings) as gateway, caller(gateway, api_key) as client:
        assert await model_at_the_engine(client, engine, "chat") == "next"
        assert (await ask(client, "next")).status_code == 404
        assert (await ask(client, "other")).status_code == 404
        cards = (await client.get("/v1/models")).json()["data"]
        assert [card["id"] for card in cards] == ["chat", "stable"]


def test_a_broken_file_stops_the_start(
    tmp_path: Path, ledger_server: RedisServer, flow_server: RedisServer
) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text("moss: moss\n")
    settings = GatewaySettings.model_validate(
        {"ledger_url": ledger_server.url, "flow_url": flow_server.url, "routes_file": routes_file}
    )
    with pytest.raises(FileUnusable, match=r"routes\.yaml:1: 'moss' stands for itself"):
        run(settings)
