"""Publishing a record on the flow Redis, once a second, whatever happens to Redis.

The publisher has a thread of its own: vLLM's start blocks the replica's event loop for longer
than a record lives, and Ray's start the driver's. Redis being gone, slow or restarted costs
records, never a request: each call has a deadline, failures are logged when they begin and when
they end, and the next second tries again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from importlib import resources
from typing import Protocol

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from serving.flow import redis_keys
from serving.flow.demand import Demand, parse_demand

RECORD_LIFE_MS = 5000
"""A replica that is silent for so long is taken for gone: five missed records."""

PUBLISH_PERIOD_S = 1.0

# Below the period, so that a Redis that stands still costs one record and not two.
REDIS_TIMEOUT_S = 0.8

_log = logging.getLogger(__name__)


class Store(Protocol):
    """Where a record is kept. Raises redis.RedisError."""

    def write(self, record: str) -> None:
        """Write the record, to live RECORD_LIFE_MS."""

    def remove(self) -> None:
        """Take the record away."""

    def close(self) -> None:
        """Close the connections."""


def connect(flow_url: str) -> Redis:
    """A connection whose calls fail within REDIS_TIMEOUT_S."""
    # One try per call: the next second is the retry.
    return Redis.from_url(
        flow_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _script(name: str) -> str:
    return resources.files("serving.flow").joinpath("lua", name).read_text(encoding="utf-8")


def note_models(flow_url: str, models: Collection[str]) -> None:
    """Have gateways know these models though nothing of theirs runs: 503, not 404.

    Forgotten after some minutes. A flow Redis that does not answer costs that and no more.
    """
    try:
        with connect(flow_url) as redis:
            for model in models:
                redis.eval(_script("touch_model.lua"), 1, redis_keys.MODELS, model)
    except RedisError as error:
        _log.warning("models without a replica not told: %s", error)


class ModelStore:
    """A model's record and its place among the models."""

    def __init__(self, flow_url: str, *, model: str) -> None:
        self._redis = connect(flow_url)
        self._model = model
        self._key = redis_keys.model_record(model)
        self._touch_script = _script("touch_model.lua")

    def write(self, record: str) -> None:
        """Write the record and note that the model is served."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(self._key, record, px=RECORD_LIFE_MS)
        pipeline.eval(self._touch_script, 1, redis_keys.MODELS, self._model)
        pipeline.execute()

    def remove(self) -> None:
        """Take the record away; the model stays known."""
        self._redis.delete(self._key)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class RecordStore:
    """The replica's three keys on the flow Redis. Raises redis.RedisError.

    `demand` is what the line asked for at the last write, None where nobody says.
    """

    def __init__(self, flow_url: str, *, model: str, replica_id: str) -> None:
        self._redis = connect(flow_url)
        self._model = model
        self._replica_id = replica_id
        self._keys = (
            redis_keys.replica_record(model, replica_id),
            redis_keys.model_replicas(model),
            redis_keys.demand(model),
        )
        self.demand: Demand | None = None
        self._publish_script = _script("publish_replica.lua")
        self._touch_script = _script("touch_model.lua")

    def write(self, record: str) -> None:
        """Write the record and renew its place in the two lists."""
        pipeline = self._redis.pipeline(transaction=False)
        # EVAL, not EVALSHA: 300 bytes a second, and a restarted Redis needs no second round.
        pipeline.eval(
            self._publish_script, 3, *self._keys, record, self._replica_id, RECORD_LIFE_MS
        )
        pipeline.eval(self._touch_script, 1, redis_keys.MODELS, self._model)
        self.demand = parse_demand(pipeline.execute()[0])

    def remove(self) -> None:
        """Take the record away; the model stays known."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(self._keys[0])
        pipeline.zrem(self._keys[1], self._replica_id)
        pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class Publisher:
    """Writes what `record()` returns once a second; nothing while it returns None."""

    def __init__(self, store: Store, record: Callable[[], str | None]) -> None:
        self._store = store
        self._record = record
        self._wake = threading.Event()
        self._stopping = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def publish_soon(self) -> None:
        """Publish now, not at the end of the second; returns before it is done."""
        self._wake.set()

    def stop(self) -> None:
        """Publish no more and remove the record. Returns within three Redis deadlines."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=2 * REDIS_TIMEOUT_S)
        try:
            self._store.remove()
        except RedisError as error:
            _log.warning("record not removed, it expires by itself: %s", error)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping:
            self._publish()
            self._wake.wait(PUBLISH_PERIOD_S)
            self._wake.clear()

    def _publish(self) -> None:
        try:
            record = self._record()
            if record is not None:
                self._store.write(record)
        except RedisError as error:
            if not self._failing:
                _log.warning("record not published: %s", error)
            self._failing = True
        except Exception:
            # Serving must outlive a fault in its own reporting; silence lets the record expire.
            _log.exception("record not published")
        else:
            if self._failing:
                _log.warning("record published again")
            self._failing = False
