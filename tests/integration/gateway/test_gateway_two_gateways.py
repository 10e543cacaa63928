"""Two gateways that share their Redis servers are one gateway to whoever calls them."""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway_callers import caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.held_engine import Held
from tests.plans_file import write_plans
from tests.scripted_engine import MODEL, ScriptedEngine
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
Start = Callable[..., GatewayProcess]


@pytest.fixture
async def other_key(directory: Directory) -> str:
    """Another account's."""
    (invite,) = await directory.create_invites(1, "free")
    return (await directory.redeem(invite.code, "other@example.com")).api_key


@pytest.mark.parametrize("how", ["queue_timeout", "draining"])
async def test_a_place_that_was_lost_at_one_gateway_is_kept_at_the_other(
    start_gateway: Start, api_key: str, other_key: str, engine: ScriptedEngine, how: str
) -> None:
    held = Held(engine)
    wait_s_max = 5 if how == "queue_timeout" else 300
    one, two = start_gateway(slots=1, queue_wait_s_max=wait_s_max), start_gateway(slots=1)
    async with (
        one,
        two,
        caller(one, api_key) as at_one,
        caller(two, api_key) as at_two,
        caller(two, other_key) as other,
    ):
        running = asyncio.create_task(other.post(PATH, json=CHAT))
        await engine.request(0)
        turned_away = asyncio.create_task(at_one.post(PATH, json=CHAT))
        await until_waiting(at_two, 1)
        if how == "draining":
            one.supervisor.terminate()
        refused = await turned_away
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, how)
        late = asyncio.create_task(other.post(PATH, json=CHAT))
        await until_waiting(other, 1)
        back = asyncio.create_task(at_two.post(PATH, json=CHAT))
        view = await until_waiting(at_two, 1)
        assert [place["position"] for place in view["waiting"]] == [1]
        view = await until_waiting(other, 1)
        assert [place["position"] for place in view["waiting"]] == [2]
        held.let_go(3)
        assert {(await call).status_code for call in (running, back, late)} == {200}


async def test_limits_hold_over_all_gateways_and_all_keys_of_an_account(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    plans = write_plans(tmp_path / "plans", requests_per_minute=20)
    one, two = start_gateway(plans_file=plans), start_gateway(plans_file=plans)
    async with one, two, caller(one, api_key) as first:
        second_key = (await first.post("/keys", json={"name": "second"})).json()["api_key"]
        async with (
            caller(one, second_key) as second,
            caller(two, api_key) as third,
            caller(two, second_key) as fourth,
        ):
            began_at = time.monotonic()
            answers = await asyncio.gather(
                *(
                    client.post(PATH, json=CHAT)
                    for client in (first, second, third, fourth)
                    for _ in range(20)
                )
            )
            refilled = math.ceil((time.monotonic() - began_at) / 3)
    served = sum(answer.status_code == 200 for answer in answers)
    assert 20 <= served <= 20 + refilled
    refusals = [answer.json()["error"]["code"] for answer in answers if answer.status_code != 200]
    assert set(refusals) == {"rate_limit_requests"}
