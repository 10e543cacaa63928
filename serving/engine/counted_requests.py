"""The requests inside a replica, counted from their arrival to the end of their answer.

vLLM's own gauges are as old as its last step: a request that is being read, or is in its first
step, counts as none there, and a stop that trusted them would cut it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.engine.replica_gate import ASGIApp, Receive, Scope, Send


class CountedRequests:
    """An ASGI application around another one, which knows what has not ended in it.

    `on_end` is called as each one ends, however it does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ended = asyncio.Event()
        self.unfinished = 0
        self.on_end: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # lasts as long as the server
            await self._app(scope, receive, send)
            return
        self.unfinished += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.unfinished -= 1
            self._ended.set()
            self.on_end()

    async def all_ended(self, *, within_s: float) -> bool:
        """Whether none is left, waited for at most so long."""
        try:
            async with asyncio.timeout(within_s):
                while self.unfinished:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            return False
        return True
