"""A light Floodgate: launcher, both Redis processes, and the gateway before a scripted engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.running_floodgate import RunningFloodgate
from tests.scripted_engine import EngineRequest, ScriptedEngine


async def say_hello(request: EngineRequest) -> web.StreamResponse:
    response = await request.stream()
    event = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    await response.write(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())
    return response


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine() as engine:
        engine.script = say_hello
        yield engine


@pytest.fixture
async def light(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[RunningFloodgate]:
    """Not started. The engine answers from the test's own loop, so start it in a thread."""
    running = RunningFloodgate(tmp_path / "home", upstream_url=engine.url, host="127.0.0.1")
    yield running
    await asyncio.to_thread(running.stop)
    running.run("down")
