"""What serving reads on the flow Redis: a model's demand, an operator's pin, replica records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from redis import Redis

from serving.flow import redis_keys
from serving.flow.demand import Demand, parse_demand
from serving.flow.flow_connection import connect


@dataclass(frozen=True, slots=True)
class FlowLook:
    """One look. `pin` is how many replicas an operator wants, None where nobody has said."""

    demand: Demand | None
    pin: int | None
    replicas: tuple[dict[str, Any], ...]


class FlowReader:
    """Raises redis.RedisError within the deadline of each call."""

    def __init__(self, flow_url: str, *, model: str) -> None:
        self._redis: Redis = connect(flow_url)
        self._model = model

    def look(self) -> FlowLook:
        """Two round trips."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(redis_keys.demand(self._model))
        pipeline.hget(redis_keys.PINS, self._model)
        pipeline.zrange(redis_keys.model_replicas(self._model), 0, -1)
        demand, pin, ids = pipeline.execute()
        names = [redis_keys.replica_record(self._model, each.decode()) for each in ids]
        texts = self._redis.mget(names) if names else []
        return FlowLook(
            parse_demand(demand),
            None if pin is None else int(pin),
            tuple(json.loads(text) for text in texts if text),
        )

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
