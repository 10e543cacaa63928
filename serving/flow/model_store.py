"""Models on the flow Redis: the record of one, and those that nothing runs of."""

from __future__ import annotations

import logging
from collections.abc import Collection

from redis.exceptions import RedisError

from serving.flow import redis_keys
from serving.flow.flow_connection import connect, script
from serving.flow.record import RECORD_LIFE_MS

_log = logging.getLogger(__name__)


class ModelStore:
    """A model's record and its place among the models. Raises redis.RedisError."""

    def __init__(self, flow_url: str, *, model: str) -> None:
        self._redis = connect(flow_url)
        self._model = model
        self._key = redis_keys.model_record(model)
        self._touch_script = script("touch_model.lua")

    def write(self, record: str) -> None:
        """Write the record and note that the model is served."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(self._key, record, px=RECORD_LIFE_MS)
        pipeline.eval(self._touch_script, 1, redis_keys.MODELS, self._model)
        pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def note_models(flow_url: str, models: Collection[str]) -> None:
    """Have gateways know these models though nothing of theirs runs: 503, not 404.

    Forgotten after some minutes. A flow Redis that does not answer costs that and no more.
    """
    try:
        with connect(flow_url) as redis:
            for model in models:
                redis.eval(script("touch_model.lua"), 1, redis_keys.MODELS, model)
    except RedisError as error:
        _log.warning("models without a replica not told: %s", error)
