"""A replica's record on the flow Redis."""

from __future__ import annotations

from serving.flow import redis_keys
from serving.flow.demand import Demand, parse_demand
from serving.flow.flow_connection import connect, script
from serving.flow.record import RECORD_LIFE_MS


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
        self._publish_script = script("publish_replica.lua")
        self._touch_script = script("touch_model.lua")

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
