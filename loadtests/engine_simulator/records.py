"""Replica records on the flow Redis, version 1 (docs/architecture.md), once a second.

Written anew from the documented format: loadtests imports nothing of Floodgate. A contract test
reads them with the gateway's own reader.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from importlib import resources

from redis.asyncio import Redis
from redis.exceptions import RedisError

from loadtests.engine_simulator.replica import ENDPOINTS, Replica
from loadtests.engine_simulator.token_rate import TokenRate

RECORD_LIFE_MS = 5_000
PERIOD_S = 1.0
# Below the period: a Redis that stands still costs one record and not two.
REDIS_TIMEOUT_S = 0.8
MODELS_KEY = "fg:models"

_log = logging.getLogger(__name__)


def record_key(model: str, replica_id: str) -> str:
    """Where a replica's record stands."""
    return f"fg:replica:{{{model}}}:{replica_id}"


def replicas_key(model: str) -> str:
    """The sorted set of a model's replicas."""
    return f"fg:replicas:{{{model}}}"


def record_json(replica: Replica, *, generation_tokens_per_s: float, published_at_ms: int) -> str:
    """The record of a replica that is up. It has no tokenizer, no template and no adapters."""
    engine = replica.engine
    return json.dumps(
        {
            "version": 1,
            "model": replica.model,
            "replica_id": replica.replica_id,
            "url": replica.url,
            "state": "running",
            "slots": replica.slots,
            "context_tokens_max": engine.profile.context_tokens_max,
            "output_tokens_default": 0,
            "endpoints": list(ENDPOINTS),
            "tokenizer": "",
            "template_tokens": 0,
            "adapters": [],
            "engine": {
                "running": engine.running,
                "waiting": engine.waiting,
                "kv_use": round(engine.batch.kv_use, 4),
                "preemptions": engine.batch.preemptions,
                "generation_tokens": engine.generation_tokens,
                "prompt_tokens": engine.prompt_tokens,
                "generation_tokens_per_s": round(generation_tokens_per_s, 1),
            },
            "published_at_ms": published_at_ms,
        },
        separators=(",", ":"),
    )


class RecordPublisher:
    """Publishes all replicas that are up; a crashed one falls silent and its record expires."""

    def __init__(
        self,
        flow_url: str,
        replicas: Sequence[Replica],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = Redis.from_url(
            flow_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._replicas = replicas
        self._clock = clock
        self._rates = {replica.replica_id: TokenRate() for replica in replicas}
        self._script = (
            resources.files("loadtests.engine_simulator")
            .joinpath("lua", "publish_record.lua")
            .read_text(encoding="utf-8")
        )

    async def run(self) -> None:
        """Publish until cancelled. A Redis that is gone costs records and a line in the log."""
        while True:
            try:
                await self.publish()
            except (RedisError, OSError) as error:
                _log.warning("replica records not published: %s", error)
            await asyncio.sleep(PERIOD_S)

    async def publish(self) -> None:
        """One round. Raises RedisError."""
        now_ms = time.time_ns() // 1_000_000
        pipeline = self._redis.pipeline(transaction=False)
        for replica in self._replicas:
            if not replica.is_up:
                continue
            keys = (
                record_key(replica.model, replica.replica_id),
                replicas_key(replica.model),
            )
            rate = self._rates[replica.replica_id].over_window(
                replica.engine.generation_tokens, self._clock()
            )
            record = record_json(replica, generation_tokens_per_s=rate, published_at_ms=now_ms)
            pipeline.eval(self._script, 2, *keys, record, replica.replica_id, RECORD_LIFE_MS)
            # Scored by the clock of this machine: a load test's Redis runs beside it.
            pipeline.zadd(MODELS_KEY, {replica.model: now_ms})
        await pipeline.execute()

    async def close(self) -> None:
        """Take the records away: a clean end."""
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for replica in self._replicas:
                pipeline.delete(record_key(replica.model, replica.replica_id))
                pipeline.zrem(replicas_key(replica.model), replica.replica_id)
            await pipeline.execute()
        except (RedisError, OSError) as error:
            _log.warning("replica records not removed, they expire by themselves: %s", error)
        await self._redis.aclose()
