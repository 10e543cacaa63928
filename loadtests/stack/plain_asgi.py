"""The yardstick: the least that a Python proxy with a shared limit does, on the same libraries.

A plain ASGI endpoint on uvicorn (uvloop, httptools): one EVALSHA through redis-py, one POST through
aiohttp, the answer's bytes passed on. No keys, no line, no policy, no log, no metrics. What it does
on a machine tells how fast that machine is, so the gateway's share of it means the same on all.

    python -m loadtests.stack.plain_asgi --port P --upstream URL --redis URL
"""

import argparse
from typing import Any

import aiohttp
import uvicorn
from redis.asyncio import Redis

_TAKE_ONE = "return redis.call('INCR', KEYS[1])"
_PASSED_ON = (b"content-type", b"content-length")


class PlainProxy:
    """An ASGI application."""

    def __init__(self, upstream: str, redis_url: str) -> None:
        self._upstream = upstream
        self._redis = Redis.from_url(redis_url)
        self._session: aiohttp.ClientSession | None = None
        self._sha = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b""
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if not body:
            await _answer_ready(send)
            return
        assert self._session is not None
        await self._redis.evalsha(self._sha, 1, "yardstick")
        headers = {"content-type": "application/json"}
        url = self._upstream + scope["path"]
        async with self._session.post(url, data=body, headers=headers) as answer:
            kept = [(k.lower(), v) for k, v in answer.raw_headers if k.lower() in _PASSED_ON]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._sha = await self._redis.script_load(_TAKE_ONE)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await self._redis.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer_ready(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.stack.plain_asgi", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="URL that requests go on to")
    parser.add_argument("--redis", required=True, help="URL of a Redis server")
    options = parser.parse_args()
    uvicorn.run(
        PlainProxy(options.upstream, options.redis),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
