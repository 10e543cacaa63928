"""What serving reads on the flow Redis: a model's demand, an operator's pin, replica records."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from redis import Redis

from serving.flow import redis_keys
from serving.flow.demand import Demand, parse_demand
from serving.flow.publisher import connect
from serving.flow.record import RECORD_VERSION

_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class FlowLook:
    """One look. `pin` is how many replicas an operator wants, None where nobody has said."""

    demand: Demand | None
    pin: int | None
    replicas: tuple[dict[str, Any], ...]


class FlowReader:
    """Raises redis.RedisError within the deadline of each call.

    What is of another version, or broken, is as if it were not there; a warning says so once.
    """

    def __init__(self, flow_url: str, *, model: str) -> None:
        self._redis: Redis = connect(flow_url)
        self._model = model
        self._warned: set[str] = set()

    def look(self) -> FlowLook:
        """Two round trips."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(redis_keys.demand(self._model))
        pipeline.hget(redis_keys.PINS, self._model)
        pipeline.zrange(redis_keys.model_replicas(self._model), 0, -1)
        demand_text, pin_text, ids = pipeline.execute()
        names = [redis_keys.replica_record(self._model, each.decode()) for each in ids]
        texts = self._redis.mget(names) if names else []
        demand = parse_demand(demand_text)
        if demand_text and demand is None:
            self._warn_once("the demand record")
        pin = int(pin_text) if pin_text and pin_text.isdigit() else None
        if pin_text and pin is None:
            self._warn_once("the pin")
        replicas = [_parse_replica(text) for text in texts if text]
        if None in replicas:
            self._warn_once("the record of a replica")
        return FlowLook(demand, pin, tuple(each for each in replicas if each is not None))

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("%s: %s is broken or of another version: skipped", self._model, what)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _parse_replica(text: bytes | str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(text)
        is_known = record.get("version", RECORD_VERSION) == RECORD_VERSION
    except (ValueError, AttributeError):
        return None
    return record if is_known else None
