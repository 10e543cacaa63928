"""Plans, limits and usage through the real gateway processes."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
import redis.asyncio as redis
from aiohttp import web

from gateway.errors import FileUnusable
from gateway.flow import redis_keys
from gateway.server import run
from gateway.settings import GatewaySettings
from tests.gateway_callers import caller, day_tokens, until_day_tokens
from tests.gateway_process import GatewayProcess
from tests.plans_file import replace_file, write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello " * 40}]}
PATH = "/v1/chat/completions"
BROKEN = "free:\n  requests_per_minute: many\n"


async def until_limit(client: httpx.AsyncClient, limit: str) -> None:
    """Until a worker answers that has this plan, whichever it is."""
    while True:
        answer = await client.post(PATH, json=CHAT, headers={"connection": "close"})
        if answer.headers["x-ratelimit-limit-requests"] == limit:
            return
        await asyncio.sleep(0.02)


async def test_an_edited_file_holds_without_a_restart_and_a_broken_one_is_refused(
    start_gateway: Callable[..., GatewayProcess], api_key: str, tmp_path: Path
) -> None:
    folder = tmp_path / "plans"
    plans_file = write_plans(folder, requests_per_minute=1000)
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(plans_file=plans_file, workers=2) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
    ):
        await until_limit(client, "1000")
        replace_file(plans_file, BROKEN)
        while gateway.log.count("plans_refused") < 2:
            await asyncio.sleep(0.02)
        assert f"{plans_file}:2: 'free', requests_per_minute" in gateway.log
        await until_limit(client, "1000")
        write_plans(folder, requests_per_minute=2000)
        await until_limit(client, "2000")


@pytest.mark.timeout(180)
async def test_a_worker_that_starts_beside_a_broken_file_has_the_plans_that_were_there(
    start_gateway: Callable[..., GatewayProcess], api_key: str, tmp_path: Path
) -> None:
    folder = tmp_path / "plans"
    plans_file = write_plans(folder, requests_per_minute=1000)
    async with (
        start_gateway(plans_file=plans_file, workers=1) as gateway,
        caller(gateway, api_key) as client,
    ):

        def kill_the_worker() -> None:
            (worker,) = gateway.workers()
            worker.kill()
            worker.wait()

        await until_limit(client, "1000")
        write_plans(folder, requests_per_minute=2000)
        kill_the_worker()
        await until_limit(client, "2000")
        replace_file(plans_file, BROKEN)
        for refusals in (1, 2):  # that of the worker which runs, and that of its successor
            while gateway.log.count("plans_refused") < refusals:
                await asyncio.sleep(0.02)
            kill_the_worker()
            await until_limit(client, "2000")
        write_plans(folder, requests_per_minute=3000)
        await until_limit(client, "3000")


def test_a_broken_file_stops_the_start(
    tmp_path: Path, ledger_server: RedisServer, flow_server: RedisServer
) -> None:
    plans_file = tmp_path / "plans.yaml"
    plans_file.write_text("free:\n  weight: heavy\n")
    settings = GatewaySettings.model_validate(
        {"ledger_url": ledger_server.url, "flow_url": flow_server.url, "plans_file": plans_file}
    )
    with pytest.raises(FileUnusable, match=r"plans\.yaml:2: 'free', weight"):
        run(settings)


async def test_a_days_budget_ends_in_429_and_the_use_is_in_the_ledger(
    start_gateway: Callable[..., GatewayProcess],
    directory: Directory,
    api_key: str,
    tmp_path: Path,
) -> None:
    plans_file = write_plans(tmp_path / "plans", tokens_per_day=2_000)
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(plans_file=plans_file) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
    ):
        served = 0
        while (answer := await client.post(PATH, json=CHAT)).status_code == 200:
            served += 1
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "budget_exhausted"
        assert answer.json()["error"]["type"] == "insufficient_quota"
        assert served
        record = await directory.find_key(api_key)
        assert record is not None
        while True:
            days = await directory.usage.usage_of(record.account_id, 2)
            if sum(day.total.requests for day in days) == served:
                break
            await asyncio.sleep(0.02)
        assert {model for day in days for model in day.by_model} == {MODEL}
        told = (await client.get("/keys/usage?days=2")).json()
        assert told["account_id"] == record.account_id
        assert sum(day["requests"] for day in told["days"]) == served
        assert told["days"][0]["models"][MODEL]["prompt_tokens"] > 0


async def test_two_hundred_connections_over_four_workers_never_use_more_than_the_days_budget(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    """Overshoot is 0: what the engine reports, summed up, against tokens_per_day."""
    budget, random_, used = 40_000, random.Random(5), 0

    async def use_some(request: EngineRequest) -> web.StreamResponse:
        nonlocal used
        await asyncio.sleep(random_.uniform(0, 0.05))
        prompt = random_.randint(1, 40)
        output = random_.randint(1, orjson.loads(request.body)["max_completion_tokens"])
        used += prompt + output
        usage = {"prompt_tokens": prompt, "completion_tokens": output}
        return web.json_response({"choices": [], "usage": usage})

    engine.script = use_some
    plans_file = write_plans(tmp_path / "plans", tokens_per_day=budget)
    refusals: set[str] = set()

    async def ask_until_it_is_used_up(client: httpx.AsyncClient) -> None:
        while used < 0.95 * budget:
            cap = random_.choice([{}, {"max_tokens": 50}, {"max_completion_tokens": 300}])
            answer = await client.post(PATH, json={**CHAT, **cap})
            if answer.status_code != 200:
                refusals.add(answer.json()["error"]["code"])
                await asyncio.sleep(0.05)

    settings = {"plans_file": plans_file, "workers": 4, "slots": 200}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        await asyncio.gather(*(ask_until_it_is_used_up(client) for _ in range(200)))
        await until_day_tokens(flow_server, account_id, used)
    assert refusals == {"budget_exhausted"}
    assert 0.95 * budget <= used <= budget


async def test_the_engine_gets_a_cap_of_what_is_left_and_of_no_less_than_64(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 0}

    async def cost(request: EngineRequest) -> web.StreamResponse:
        return web.json_response({"choices": [], "usage": usage})

    engine.script = cost
    plans_file = write_plans(tmp_path / "plans", tokens_per_day=2_000, output_tokens_default=1_000)
    async with start_gateway(plans_file=plans_file) as gateway, caller(gateway, api_key) as client:

        async def ask_with_left(tokens: int) -> httpx.Response:
            """Once exactly so many tokens are left of the day."""
            used = await day_tokens(flow_server, account_id)
            usage["completion_tokens"] = 2_000 - tokens - used
            await client.post(PATH, json={**CHAT, "max_tokens": 1})
            await until_day_tokens(flow_server, account_id, 2_000 - tokens)
            usage["completion_tokens"] = 0
            answer = await client.post(PATH, json=CHAT)
            await until_day_tokens(flow_server, account_id, 2_000 - tokens)
            return answer

        async def cap() -> int:
            body = orjson.loads(engine.requests[-1].body)
            return int(body["max_completion_tokens"])

        assert (await client.post(PATH, json=CHAT)).status_code == 200
        assert await cap() == 1_000, "the plan's default"
        await until_day_tokens(flow_server, account_id, 0)
        assert (await ask_with_left(1_000)).status_code == 200
        prompt = 1_000 - await cap()
        assert 0 < prompt < 500
        assert (await ask_with_left(prompt + 100)).status_code == 200
        assert await cap() == 100
        assert (await ask_with_left(prompt + 64)).status_code == 200
        assert await cap() == 64
        refused = await ask_with_left(prompt + 63)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exhausted")
        named = await client.post(PATH, json={**CHAT, "max_tokens": 63})
        assert named.status_code == 200, "one that is named may be smaller"


async def test_a_request_for_no_model_of_ours_charges_nothing(
    start_gateway: Callable[..., GatewayProcess],
    directory: Directory,
    api_key: str,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    plans_file = write_plans(tmp_path / "plans", requests_per_minute=5, tokens_per_day=100_000)
    record = await directory.find_key(api_key)
    assert record is not None
    limits = redis_keys.account_limits(record.account_id)
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(plans_file=plans_file) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
        redis.Redis.from_url(flow_server.url) as flow,
    ):
        for _ in range(20):
            answer = await client.post(PATH, json={**CHAT, "model": "no-such-model"})
            assert answer.json()["error"]["code"] == "model_not_found"
        assert await flow.hmget(limits, "requests", "day_tokens") == [None, None]
