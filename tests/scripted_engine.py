"""An OpenAI-compatible server that does what a test tells it, step by step.

For what a real engine does not do on command: stop between two events, break off in the middle of
one, fail, or say nothing. Whatever a real vLLM can show is tested on a real vLLM in tests/e2e.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

MODEL = "scripted"
Script = Callable[["EngineRequest"], Awaitable[web.StreamResponse]]


class EngineRequest:
    """One request as the engine sees it; a script answers through it."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self.raw = request
        self.body = body
        self.headers = request.headers
        self.gone = asyncio.Event()

    async def stream(self) -> web.StreamResponse:
        """Opens an event stream; write to it with `.write(b"data: …")`."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(self.raw)
        return response

    async def wait_until_gone(self) -> web.StreamResponse:
        """Keeps the request open until the caller closes the connection."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def cut(self) -> None:
        """Closes the connection under the answer."""
        assert self.raw.transport is not None
        self.raw.transport.abort()


async def answer_ok(request: EngineRequest) -> web.StreamResponse:
    return web.json_response({"object": "chat.completion", "choices": [], "usage": {}})


class ScriptedEngine:
    """Runs in the test's own event loop on a free loopback port."""

    def __init__(self, models: Sequence[str] = (MODEL,)) -> None:
        self.script: Script = answer_ok
        self._names = models  # for good: a gateway that tests share asks only every five seconds
        self.requests: list[EngineRequest] = []
        self._arrived = asyncio.Condition()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        self.url = ""

    def reset(self) -> None:
        """Answers plainly again, and forgets what it saw."""
        self.script = answer_ok
        self.requests = []

    async def request(self, index: int) -> EngineRequest:
        """The request with this index, once it has arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > index)
        return self.requests[index]

    async def start(self, port: int = 0) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _models(self, request: web.Request) -> web.Response:
        cards = [{"id": model, "object": "model"} for model in self._names]
        return web.json_response({"object": "list", "data": cards})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        seen = EngineRequest(request, await request.read())
        async with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        try:
            return await self.script(seen)
        finally:
            seen.gone.set()
