"""Tombstones of revoked keys on the flow Redis.

The gateway's rate-limit script reads them in the call that it makes anyway, so a revocation holds
from the next request on, in every worker. The one module that imports redis for flow.
"""

import asyncio

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from waitlist.storage import redis_keys

# Gateways trust a key that they have looked up for seconds, for minutes while the ledger is gone.
# A day is far beyond both; from then on the ledger alone says no.
_TOMBSTONE_LIFE_S = 86_400


class Tombstones:
    def __init__(self, url: str, *, deadline_s: float) -> None:
        """Raises ValueError when the URL is none of a Redis; its text does not quote the URL."""
        try:
            self._client: redis.Redis = redis.Redis.from_url(
                url,
                socket_timeout=deadline_s,
                socket_connect_timeout=deadline_s,
                retry=Retry(NoBackoff(), 0),
                client_name="floodgate-waitlist",
                decode_responses=True,
            )
        except ValueError:
            raise ValueError(
                "FLOODGATE_FLOW_URL must look like redis://:password@127.0.0.1:6380/0."
            ) from None
        self._deadline_s = deadline_s

    async def close(self) -> None:
        await self._client.aclose()

    async def write(self, account_id: str, key_id: str) -> str | None:
        """Marks the key as revoked. Returns None, or why that could not be done."""
        name = redis_keys.revoked_keys(account_id)
        try:
            async with asyncio.timeout(self._deadline_s):
                async with self._client.pipeline(transaction=True) as pipeline:
                    pipeline.sadd(name, key_id)
                    pipeline.expire(name, _TOMBSTONE_LIFE_S)
                    await pipeline.execute()
        except TimeoutError:
            return f"the flow Redis did not answer within {self._deadline_s:g} s"
        except (RedisError, OSError) as error:
            return f"the flow Redis cannot be written ({error})"
        return None
