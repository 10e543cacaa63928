"""Plans, limits and usage through the real gateway processes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis.asyncio as redis

from gateway import redis_keys
from gateway.errors import FileUnusable
from gateway.server import run
from gateway.settings import GatewaySettings
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello " * 40}]}
PATH = "/v1/chat/completions"


async def test_an_edited_file_holds_without_a_restart_and_a_broken_one_is_refused(
    start_gateway: Callable[..., GatewayProcess], api_key: str, tmp_path: Path
) -> None:
    folder = tmp_path / "plans"
    plans_file = write_plans(folder, requests_per_minute=1000)
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(plans_file=plans_file, workers=2) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers) as client,
    ):

        async def until_limit(limit: str) -> None:
            while True:
                answer = await client.post(PATH, json=CHAT, headers={"connection": "close"})
                if answer.headers["x-ratelimit-limit-requests"] == limit:
                    return
                await asyncio.sleep(0.02)

        await until_limit("1000")
        plans_file.write_text("free:\n  requests_per_minute: many\n")
        while gateway.log.count("plans_refused") < 2:
            await asyncio.sleep(0.02)
        assert f"{plans_file}:2: 'free', requests_per_minute" in gateway.log
        await until_limit("1000")
        write_plans(folder, requests_per_minute=2000)
        await until_limit("2000")


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
        httpx.AsyncClient(base_url=gateway.url, headers=headers) as client,
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
        httpx.AsyncClient(base_url=gateway.url, headers=headers) as client,
        redis.Redis.from_url(flow_server.url) as flow,
    ):
        for _ in range(20):
            answer = await client.post(PATH, json={**CHAT, "model": "no-such-model"})
            assert answer.json()["error"]["code"] == "model_not_found"
        assert await flow.hmget(limits, "requests", "day_tokens") == [None, None]
