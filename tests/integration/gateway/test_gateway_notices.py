"""What waiting callers hear through a real gateway process, and when they hear nothing."""

import asyncio
import time
from collections.abc import Callable

import orjson
import pytest
from aiohttp import web

from tests.gateway_callers import Listening, caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.held_engine import EVENTS, Held
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
SOON = {"slots": 1, "queue_notice_stream_s": 0, "queue_notice_json_s": 0}
Start = Callable[..., GatewayProcess]


async def test_by_default_a_stream_hears_of_its_place_after_a_second_and_goes_on_hearing(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    async with start_gateway(slots=1) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        asked_at = time.monotonic()
        waiting = Listening(client, PATH, STREAM)
        await waiting.until(b": queue position=1 ")
        assert time.monotonic() - asked_at >= 1
        await waiting.until(b": queue position=1 ", 3)
        held.let_go(2)
        await waiting.done
        await first


@pytest.mark.parametrize(
    ("body", "notice"), [(STREAM, b": prefill\n\n"), (CHAT, b" ")], ids=["stream", "whole"]
)
async def test_who_was_told_to_wait_hears_on_until_the_engines_first_byte(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    body: dict[str, object],
    notice: bytes,
) -> None:
    held = Held(engine)
    settings = {**SOON, "queue_notice_every_s": 0.2}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        waiting = Listening(client, PATH, body)
        await waiting.until(b" ")
        held.let_go()
        await engine.request(1)  # it has its slot, and the engine says nothing
        told = waiting.text.count(notice)
        await waiting.until(notice, told + 3)
        held.let_go()
        await waiting.done
        if body is STREAM:
            assert waiting.text.endswith(notice + EVENTS), "nothing comes between events"
        else:
            assert orjson.loads(waiting.text)["object"] == "chat.completion"
        await first


async def test_who_was_told_nothing_gets_the_engines_true_status_however_late(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    """An answer that began early, for the sake of a notice, could not say so any more."""
    fail = asyncio.Event()

    async def fail_late(request: EngineRequest) -> web.StreamResponse:
        await fail.wait()
        return web.json_response({"error": "no"}, status=500)

    engine.script = fail_late
    settings = {**SOON, "slots": 2, "queue_notice_every_s": 0.05}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        calls = [Listening(client, PATH, body) for body in (CHAT, STREAM)]
        await engine.request(1)
        beats = r'floodgate_redis_seconds_count\{redis="flow"\}'
        before = await gateway.metric(beats)
        while await gateway.metric(beats) < before + 3:  # some seconds, and many notices
            await asyncio.sleep(0.05)
        assert [call.status for call in calls] == [0, 0]
        fail.set()
        await asyncio.gather(*(call.done for call in calls))
        assert [call.status for call in calls] == [502, 502]


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("settings", "header"),
    [({}, "off"), ({}, "OFF"), ({"queue_notices": False}, "on")],
)
async def test_notices_can_be_turned_off_for_one_request_and_for_all(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    body: dict[str, object],
    settings: dict[str, object],
    header: str,
) -> None:
    held = Held(engine)
    async with start_gateway(**SOON, **settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        quiet = Listening(client, PATH, body, headers={"X-Floodgate-Notices": header})
        await until_waiting(client, 1)
        # Places are told by the loop that also measures the line: it has passed twice.
        loud = Listening(client, PATH, STREAM)
        if not settings:
            await loud.until(b": queue position=2 ")
        else:
            while await gateway.metric(r"floodgate_queue_length\{") != 2:
                await asyncio.sleep(0.05)
        assert (quiet.status, quiet.text) == (0, b"")
        held.let_go(3)
        await asyncio.gather(quiet.done, loud.done, first)
        assert quiet.text[:1] in (b"d", b"{"), "the answer alone"
