"""What the metrics of admission say, read as an operator reads them."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from aiohttp import web

from tests.gateway_callers import caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.held_engine import Held
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine
from waitlist.directory import Directory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
POOL = r'="upstream@localhost:\d+"'
Start = Callable[..., GatewayProcess]


async def until_metric(gateway: GatewayProcess, pattern: str, value: float) -> None:
    while await gateway.metric(pattern) != value:
        await asyncio.sleep(0.02)


async def test_a_line_that_moves_is_seen_in_every_metric_of_it(
    start_gateway: Start, directory: Directory, api_key: str, engine: ScriptedEngine
) -> None:
    """Two accounts wait for one slot until fairness has been measured."""
    (invite,) = await directory.create_invites(1, "free")
    other_key = (await directory.redeem(invite.code, "other@example.com")).api_key
    is_over = asyncio.Event()

    async def take_a_while(request: EngineRequest) -> web.StreamResponse:
        await asyncio.sleep(0 if is_over.is_set() else 0.1)
        # Fairness would be 1 if both accounts' requests were alike.
        output = 2 if b'"max_completion_tokens":100' in request.body else 5
        usage = {"prompt_tokens": 3, "completion_tokens": output}
        return web.json_response({"choices": [], "usage": usage})

    engine.script = take_a_while
    settings = {"slots": 1, "queue_notice_json_s": 0.5}
    async with (
        start_gateway(**settings) as gateway,
        caller(gateway, api_key) as one,
        caller(gateway, other_key) as other,
    ):

        async def call_again_and_again(client: httpx.AsyncClient, cap: int) -> None:
            while not is_over.is_set():
                answer = await client.post(PATH, json={**CHAT, "max_tokens": cap})
                assert answer.status_code == 200

        callers = [
            asyncio.create_task(call_again_and_again(client, cap))
            for client, cap in [(one, 100), (other, 130)] * 15
        ]
        while not await gateway.metric(rf"floodgate_queue_bytes\{{pool{POOL}"):
            await asyncio.sleep(0.02)
        await until_metric(gateway, rf"floodgate_slots_capacity\{{pool{POOL}", 1)
        await until_metric(gateway, rf"floodgate_slots_held\{{pool{POOL}", 1)
        fairness = rf"floodgate_fairness_jain\{{pool{POOL}"
        while not 0.9 <= await gateway.metric(fairness) < 1:  # 1 is said of a line without anybody
            await asyncio.sleep(0.1)
        is_over.set()
        await asyncio.gather(*callers)

        joins = rf'floodgate_pool_model\{{model="{MODEL}",pool{POOL}'
        assert await gateway.metric(joins) == 1, "what is of the line belongs to the model"
        served = len(engine.requests)
        labels = rf'\{{model="{MODEL}",plan="free"'
        waited = await gateway.metric(rf'floodgate_admitted_total{labels},waited="yes"')
        at_once = await gateway.metric(rf'floodgate_admitted_total{labels},waited="no"')
        assert waited + at_once == served
        assert waited > at_once
        assert await gateway.metric(rf"floodgate_queue_wait_seconds_count{labels}") == served
        first_bytes = rf'floodgate_grant_to_first_byte_seconds_count\{{model="{MODEL}"'
        assert await gateway.metric(first_bytes) == served
        assert await gateway.metric(rf'floodgate_estimate_ratio_count\{{model="{MODEL}"') > 0
        kept = [
            await gateway.metric(rf'floodgate_estimate_p90_total\{{kept="{word}",model="{MODEL}"')
            for word in ("yes", "no")
        ]
        ratios = await gateway.metric(rf'floodgate_estimate_ratio_count\{{model="{MODEL}"')
        assert sum(kept) == ratios

        tokens = r'\{exact="true",kind="%s",model="scripted",plan="free"'
        prompt = await gateway.metric("floodgate_tokens_settled_total" + tokens % "prompt")
        output = await gateway.metric("floodgate_tokens_settled_total" + tokens % "output")
        assert prompt == 3 * served
        assert 2 * served < output < 5 * served
        reserved = r'floodgate_tokens_reserved_total\{model="scripted",plan="free"'
        assert await gateway.metric(reserved) > served * 100, "what it may use at most"
        await until_metric(gateway, "floodgate_settlements_waiting", 0)
        assert await gateway.metric("floodgate_settlements_dropped_total") == 0
        async with httpx.AsyncClient(timeout=30) as operator:
            text = (await operator.get(gateway.url + "/metrics")).text
        assert "acct" not in text
        assert "key_" not in text
        for account in (await directory.find_key(api_key), await directory.find_key(other_key)):
            assert account is not None
            assert account.account_id not in text


async def test_what_was_reserved_and_not_given_back_is_what_engines_got(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    """Each refusal takes its whole reservation back."""
    reserved, returned = (
        rf'floodgate_tokens_{what}_total\{{model="{MODEL}",plan="free"'
        for what in ("reserved", "returned")
    )
    settings = {"slots": 1, "queue_length_max": 0}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        one = await gateway.metric(reserved)
        assert one > 0
        assert await gateway.metric(returned) == 0
        held = Held(engine)
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(1)
        for _ in range(3):
            assert (await client.post(PATH, json=CHAT)).status_code == 503
        held.let_go(1)
        assert (await first).status_code == 200
        await until_metric(gateway, returned, 3 * one)
        assert await gateway.metric(reserved) == 5 * one


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("state", ["queued", "prefill", "streaming"])
async def test_a_hang_up_counts_in_the_state_that_it_came_in(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    state: str,
    body: dict[str, object],
) -> None:
    async def answer(request: EngineRequest) -> web.StreamResponse:
        if state == "streaming":
            response = web.StreamResponse()
            await response.prepare(request.raw)
            await response.write(b"data: {}\n\n")
        return await request.wait_until_gone()

    engine.script = answer
    waiting = rf'floodgate_waiting_requests\{{model="{MODEL}",plan="free"'
    async with start_gateway(slots=1) as gateway, caller(gateway, api_key) as client:
        calls = [asyncio.create_task(client.post(PATH, json=body))]
        await engine.request(0)
        if state == "queued":
            calls.append(asyncio.create_task(client.post(PATH, json=body)))
            await until_waiting(client, 1)
            await until_metric(gateway, waiting, 1)
        elif state == "streaming":  # its answer has begun at the caller
            await until_metric(gateway, r"floodgate_grant_to_first_byte_seconds_count\{", 1)
        calls[-1].cancel()
        counted = rf'floodgate_client_disconnects_total\{{model="{MODEL}",plan="free",state="%s"'
        await until_metric(gateway, counted % state, 1)
        await until_metric(gateway, waiting, 0)
        assert await gateway.metric(r"floodgate_client_disconnects_total\{") == 1
