"""What callers are told of their wait follows how fast the line really drains."""

import asyncio
import re
import time
from collections.abc import Callable

import httpx
import pytest
from aiohttp import web

from tests.gateway_callers import Listening, caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
QUIET = {"x-floodgate-notices": "off"}
COMMENT = re.compile(rb": queue position=(\d+) eta=(\d+)s p90=(\d+)s")
Start = Callable[..., GatewayProcess]


def about(found: float, expected: float) -> bool:
    """Within a factor of two and a second: the estimate looks back, and speaks in whole seconds."""
    return expected / 2 - 1 <= found <= expected * 2 + 1


def is_refused(answer: httpx.Response) -> bool:
    return answer.status_code == 503


@pytest.mark.parametrize("answer_takes_s", [0.12, 0.6], ids=["fast", "slow"])
async def test_eta_and_retry_after_follow_the_lines_own_pace(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, answer_takes_s: float
) -> None:
    """100 wait: a quarter of a minute for the fast line, a minute for the slow one."""

    async def take_a_while(request: EngineRequest) -> web.StreamResponse:
        await asyncio.sleep(answer_takes_s)
        return web.json_response({"choices": []})

    engine.script = take_a_while
    settings = {"slots": 1, "queue_notice_stream_s": 0, "queue_notice_every_s": 0.1}
    async with (
        start_gateway(**settings, queue_length_max=110) as gateway,
        caller(gateway, api_key) as client,
    ):
        began_at, before = time.monotonic(), len(engine.requests)
        waiting = [
            asyncio.create_task(client.post(PATH, json=CHAT, headers=QUIET)) for _ in range(100)
        ]
        await until_waiting(client, 99)
        last = Listening(client, PATH, STREAM)
        while not (comments := COMMENT.findall(last.text)):
            await asyncio.sleep(0.02)
        position, eta_s, p90_s = map(int, comments[-1])
        per_s = (len(engine.requests) - before) / (time.monotonic() - began_at)
        assert about(eta_s, position / per_s)
        assert p90_s >= eta_s

        (model,) = (await client.get("/v1/queue")).json()["models"]
        place = model["waiting"][-1]
        assert about(place["eta_s"]["p50"], place["position"] / per_s)
        assert place["eta_s"]["p90"] > place["eta_s"]["p50"]

        more = [
            asyncio.create_task(client.post(PATH, json=CHAT, headers=QUIET)) for _ in range(110)
        ]
        waiting += more
        while not (refused := [m.result() for m in more if m.done() and is_refused(m.result())]):
            await asyncio.sleep(0.02)
        per_s = (len(engine.requests) - before) / (time.monotonic() - began_at)
        assert refused[0].json()["error"]["code"] == "queue_full"
        assert about(int(refused[0].headers["retry-after"]), 110 / per_s)
        for call in (*waiting, last.done):
            call.cancel()
        await asyncio.gather(*waiting, last.done, return_exceptions=True)


async def test_waits_in_vain_count_among_the_estimates_and_hang_ups_do_not(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    """The line moves until everybody has an estimate, then stands still for good."""
    stand_still = asyncio.Event()

    async def answer_until_then(request: EngineRequest) -> web.StreamResponse:
        if stand_still.is_set():
            return await request.wait_until_gone()
        await asyncio.sleep(0.1)
        return web.json_response({"choices": []})

    engine.script = answer_until_then
    settings = {"slots": 1, "queue_notice_stream_s": 0, "queue_wait_s_max": 40}
    ratio = r"floodgate_estimate_ratio_count\{"
    kept = r'floodgate_estimate_p90_total\{kept="%s"'
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        fast = [asyncio.create_task(client.post(PATH, json=CHAT, headers=QUIET)) for _ in range(60)]
        await until_waiting(client, 59)
        behind = [Listening(client, PATH, STREAM) for _ in range(4)]
        while not all(COMMENT.search(one.text) for one in behind):
            await asyncio.sleep(0.02)
        stand_still.set()
        before = await gateway.metric(ratio)
        behind[0].done.cancel()
        await asyncio.gather(behind[0].done, return_exceptions=True)
        await asyncio.gather(*(one.done for one in behind[1:]))
        assert all(b"queue_timeout" in one.text for one in behind[1:])
        assert await gateway.metric(ratio) - before == 3
        assert await gateway.metric(kept % "no") == 3
        assert await gateway.metric(kept % "yes") == 0
        for call in fast:
            call.cancel()
        await asyncio.gather(*fast, return_exceptions=True)
