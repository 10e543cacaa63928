"""A scripted engine whose answers are held back until a test lets them go."""

import asyncio

from aiohttp import web

from tests.scripted_engine import EngineRequest, ScriptedEngine

EVENTS = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'


class Held:
    """Answers are let go one by one, or all; which waiting request gets the next is its own."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._let_go = asyncio.Semaphore(0)
        engine.script = self._answer

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self._let_go.release()

    async def _answer(self, request: EngineRequest) -> web.StreamResponse:
        await self._let_go.acquire()
        if b'"stream":true' not in request.body:
            return web.json_response({"object": "chat.completion", "choices": []})
        response = await request.stream()
        await response.write(EVENTS)
        return response
