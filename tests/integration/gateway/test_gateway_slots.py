"""How long a slot is held, and how many an account may have, through real gateway processes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.gateway_callers import caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
Start = Callable[..., GatewayProcess]


async def test_a_slot_is_held_to_the_last_byte(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    end = asyncio.Event()

    async def begin_and_wait(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(EVENT)
        await end.wait()
        await response.write(b"data: [DONE]\n\n")
        return response

    engine.script = begin_and_wait
    async with start_gateway(slots=1) as gateway, caller(gateway, api_key) as client:
        async with client.stream("POST", PATH, json=STREAM) as first:
            pieces = first.aiter_raw()
            assert await anext(pieces) == EVENT
            other = asyncio.create_task(client.post(PATH, json=STREAM))
            await until_waiting(client, 1)
            # The length of the line is as of a heartbeat, which also gives out what is free.
            while await gateway.metric(r"floodgate_queue_length\{") != 1:
                await asyncio.sleep(0.05)
            assert len(engine.requests) == 1
            end.set()
            assert await anext(pieces) == b"data: [DONE]\n\n"
        assert (await other).content.endswith(EVENT + b"data: [DONE]\n\n")


async def test_slots_are_back_after_answers_that_outlived_their_time(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    async def never_end(request: EngineRequest) -> web.StreamResponse:
        if b'"stream":true' not in request.body:
            return await request.wait_until_gone()
        response = await request.stream()
        await response.write(EVENT)
        return await request.wait_until_gone()

    engine.script = never_end
    async with (
        start_gateway(slots=2, stream_life_s_max=2) as gateway,
        caller(gateway, api_key) as client,
    ):
        answers = await asyncio.gather(
            *(client.post(PATH, json=body) for body in (STREAM, CHAT) for _ in range(3))
        )
        for streamed in answers[:3]:
            assert b"stream_life_exceeded" in streamed.content
        for whole in answers[3:]:
            assert whole.json()["error"]["code"] == "stream_life_exceeded"
        engine.reset()
        for _ in range(4):
            assert (await client.post(PATH, json=CHAT)).status_code == 200
        while await gateway.metric("floodgate_slots_held") != 0:
            await asyncio.sleep(0.05)


async def test_an_account_runs_no_more_at_once_than_its_plan_says_over_all_workers(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    running = most = 0

    async def count(request: EngineRequest) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.02)  # long enough for others to come in between
        finally:
            running -= 1
        return web.json_response({"object": "chat.completion", "choices": []})

    engine.script = count
    plans_file = write_plans(tmp_path / "plans", concurrent_requests=2)
    async with (
        start_gateway(workers=3, plans_file=plans_file) as gateway,
        caller(gateway, api_key) as client,
    ):
        # Connections of their own, so that every worker has some of them.
        calls = (client.post(PATH, json=CHAT, headers={"connection": "close"}) for _ in range(60))
        answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {200}
        assert most == 2
        assert len(engine.requests) == 60
