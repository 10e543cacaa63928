"""A person's place as server-sent events, until something final happens."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from waitlist.line.standing import FINAL_STATES, Standing
from waitlist.line.watching import WatchBoard

# Proxies cut a silent connection after 30 to 60 s.
_HEARTBEAT_S = 15.0
# A browser comes back by itself; streams that nobody reads any more must end some time.
_STREAM_LIFE_S_MAX = 3600.0


class StatusStream(Response):
    """Owns its watcher: it is there for exactly as long as the answer is."""

    media_type = "text/event-stream"

    def __init__(
        self,
        board: WatchBoard,
        entry_id: str,
        standing: Standing,
        render: Callable[[Standing], dict[str, Any]],
    ) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, content=None
        )
        del self.headers["content-length"]
        self._board = board
        self._entry_id = entry_id
        self._standing = standing
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._board.watching(self._entry_id, self._standing) as watcher:
            start: Message = {
                "type": "http.response.start",
                "status": 200,
                "headers": self.raw_headers,
            }
            await send(start)
            gone = asyncio.create_task(_hung_up(receive))
            try:
                await self._tell(send, self._standing)
                standing = self._standing
                ends_at = asyncio.get_running_loop().time() + _STREAM_LIFE_S_MAX
                while standing.state not in FINAL_STATES and not watcher.gone:
                    if asyncio.get_running_loop().time() >= ends_at:
                        break
                    news = asyncio.create_task(watcher.next())
                    await asyncio.wait(
                        {news, gone}, timeout=_HEARTBEAT_S, return_when="FIRST_COMPLETED"
                    )
                    if gone.done():
                        news.cancel()
                        return
                    if not news.done():
                        news.cancel()
                        await _send(send, b": still here\n\n")
                    elif (told := news.result()) is not None:
                        standing = told
                        await self._tell(send, standing)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()

    async def _tell(self, send: Send, standing: Standing) -> None:
        data = json.dumps(self._render(standing)).encode()
        await _send(send, b"event: status\ndata: " + data + b"\n\n")


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
