"""What a stop of the launcher does with an answer that runs, as FLOODGATE_STOP_IN_FLIGHT says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from deploy.launcher import marked_processes
from tests.running_floodgate import RunningFloodgate
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
PIECE = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
# Twice what answers get where a stop does not drain.
ANSWER_S = 6
Start = Callable[[str], RunningFloodgate]


@pytest.fixture
async def start(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[Start]:
    """Not started: as `light`, with this for FLOODGATE_STOP_IN_FLIGHT."""
    made: list[RunningFloodgate] = []

    def make(stop_in_flight: str) -> RunningFloodgate:
        running = RunningFloodgate(
            tmp_path / "home",
            upstream_url=engine.url,
            host="127.0.0.1",
            stop_in_flight=stop_in_flight,
            drain_s_max=60,
        )
        made.append(running)
        return running

    yield make
    for running in made:
        await asyncio.to_thread(running.stop)


async def ended(running: RunningFloodgate, engine: ScriptedEngine, *, by_command: bool) -> str:
    """What a caller has got, whose answer had begun when the run was told to stop."""
    await asyncio.to_thread(running.start)
    mark = running.state["mark"]
    is_refusing = asyncio.Event()

    async def answer(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        event = f"data: {json.dumps(PIECE)}\n\n".encode()
        await response.write(event)
        await is_refusing.wait()
        await asyncio.sleep(ANSWER_S)
        await response.write(event + b"data: [DONE]\n\n")
        return response

    engine.script = answer
    async with (
        running.client() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT) as response,
    ):
        pieces = response.aiter_text()
        got = await anext(pieces)
        stop = partial(running.run, "down") if by_command else running.launcher.terminate
        stopping = asyncio.create_task(asyncio.to_thread(stop))
        await until_refusing(running)
        is_refusing.set()
        got += "".join([piece async for piece in pieces])
    await stopping
    await asyncio.to_thread(running.wait)
    assert not marked_processes.find(marked_processes.of_run(mark))
    return got


async def until_refusing(running: RunningFloodgate) -> None:
    """Until the gateway has heard that it is to stop: nobody new gets in."""
    while True:
        try:
            async with httpx.AsyncClient(base_url=running.url) as client:
                await client.get("/readyz")
        except httpx.TransportError:
            return
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("by_command", [False, True], ids=["SIGTERM", "floodgate down"])
async def test_a_draining_stop_lets_an_answer_end_whole(
    start: Start, engine: ScriptedEngine, by_command: bool
) -> None:
    got = await ended(start("drain"), engine, by_command=by_command)
    assert got.count("Hello") == 2
    assert got.endswith("data: [DONE]\n\n")
    assert "error" not in got


async def test_a_stop_that_does_not_drain_ends_an_answer_in_words(
    start: Start, engine: ScriptedEngine
) -> None:
    got = await ended(start("abort"), engine, by_command=False)
    assert got.count("Hello") == 1
    last = json.loads(got.rpartition("data: ")[2])
    assert last["error"]["code"] == "draining"
