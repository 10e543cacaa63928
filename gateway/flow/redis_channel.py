"""A channel of the flow Redis, on a connection of its own."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.errors import FlowUnavailable

# A subscription that has been silent for this long is asked whether it is still alive.
_SILENCE_S_MAX = 5.0


class FlowChannel:
    def __init__(self, url: str, channel: str, *, deadline_s: float) -> None:
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=deadline_s,
            retry=Retry(NoBackoff(), 0),
            client_name="floodgate-grants",
            decode_responses=True,
        )
        self._channel = channel
        self._deadline_s = deadline_s

    async def messages(self) -> AsyncGenerator[str]:
        """What is published from now on. Ends by an error only.

        Raises:
            FlowUnavailable: the connection broke, or Redis does not answer on it.
        """
        pubsub = self._client.pubsub()
        try:
            async with aclosing(pubsub):
                await pubsub.subscribe(self._channel)
                pinged = False
                while True:
                    message = await pubsub.get_message(
                        timeout=self._deadline_s if pinged else _SILENCE_S_MAX
                    )
                    if message is None:
                        if pinged:
                            raise FlowUnavailable("the flow Redis fell silent")
                        await pubsub.ping()
                    pinged = message is None
                    if message is not None and message["type"] == "message":
                        yield str(message["data"])
        except (RedisError, OSError, TimeoutError) as error:
            raise FlowUnavailable(f"flow Redis: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()
