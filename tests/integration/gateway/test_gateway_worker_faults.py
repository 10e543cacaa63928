"""Gateway workers that stand still, and workers that are replaced while a line waits."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from aiohttp import web

from tests.gateway_callers import Listening, caller, load_by_worker, until_arrived
from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
FIRST = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
LAST = b"data: [DONE]\n\n"
QUIET = {"x-floodgate-notices": "off"}
Start = Callable[..., GatewayProcess]


async def each_has_both(flow: RedisServer) -> bool:
    """Whether each of the two workers has callers who run and callers who wait."""
    return sum(map(all, (await load_by_worker(flow)).values())) == 2


async def test_a_worker_that_stood_still_longer_than_its_lease_goes_on_with_all_it_had(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    slots = 16
    go_on = asyncio.Event()

    async def begin_and_wait(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(FIRST)
        await go_on.wait()
        await response.write(LAST)
        return response

    engine.script = begin_and_wait
    async with (
        start_gateway(slots=slots, workers=2) as gateway,
        caller(gateway, api_key) as client,
    ):
        streams = []
        # Each worker gets streams that run and some that wait, as far as connections fall.
        while len(streams) < slots or not await each_has_both(flow_server):
            streams.append(Listening(client, PATH, STREAM, headers=QUIET))
            await until_arrived(flow_server, len(streams))
        await engine.request(slots - 1)
        before = await load_by_worker(flow_server)
        assert len(before) == 2
        worker = gateway.workers()[0]
        worker.suspend()
        try:
            while len(after := await load_by_worker(flow_server)) == 2:
                await asyncio.sleep(0.05)
            (living,) = after
            (stopped,) = before.keys() - after.keys()
            # Others get its slots: those who waited at the living worker, and who comes now.
            served = slots + min(before[living].waiting, before[stopped].running)
            await engine.request(served - 1)
        finally:
            worker.resume()
        while len(await load_by_worker(flow_server)) < 2:
            await asyncio.sleep(0.05)
        again = (await load_by_worker(flow_server))[stopped]
        assert again.running == before[stopped].running, "it told of its streams at once"
        go_on.set()
        await asyncio.gather(*(stream.done for stream in streams))
        assert {(stream.status, stream.text) for stream in streams} == {(200, FIRST + LAST)}
        while any(map(any, (await load_by_worker(flow_server)).values())):
            await asyncio.sleep(0.05)
        assert len(engine.requests) == len(streams)
        assert "Traceback" not in gateway.log


async def test_replacing_all_workers_under_constant_arrivals_breaks_nothing(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    """Who is told that its worker drains comes back and is served; nobody sees anything else."""

    async def a_few_events(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        for _ in range(5):
            await response.write(FIRST)
            await asyncio.sleep(0.02)
        await response.write(LAST)
        return response

    engine.script = a_few_events
    drained, broken = 0, []
    is_over = asyncio.Event()

    async def call_again_and_again(client: httpx.AsyncClient) -> None:
        nonlocal drained
        while not is_over.is_set():
            # Without notices each refusal is a status.
            try:
                answer = await client.post(PATH, json=STREAM, headers=QUIET)
            except httpx.TransportError as error:
                broken.append(repr(error))
                continue
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "draining"
                assert answer.headers["retry-after"] == "1"
                drained += 1
                continue
            assert answer.status_code == 200, answer.text
            assert answer.content.endswith(FIRST * 5 + LAST), "an accepted stream ends whole"

    async with start_gateway(slots=2, workers=2) as gateway, caller(gateway, api_key) as client:
        callers = [asyncio.create_task(call_again_and_again(client)) for _ in range(20)]
        for _ in range(2):
            old = {worker.pid for worker in gateway.workers()}
            await engine.request(len(engine.requests) + 10)  # the line is full and moves
            gateway.replace_workers()
            while {worker.pid for worker in gateway.workers()} & old:
                await asyncio.sleep(0.05)
                assert not broken
        is_over.set()
        await asyncio.gather(*callers)
        assert drained, "somebody waited at a worker that was replaced"
