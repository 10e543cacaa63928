"""What the replicas publish on the flow Redis, for `floodgate status`."""

import redis

from gateway.engines.replica_record import Replica, parse_record
from gateway.flow import redis_keys

_DEADLINE_S = 2.0
# More models than one deployment ever serves, and more replicas than serving starts of one.
MODELS_MAX = 100
_REPLICAS_MAX = 1000


def read_replicas(flow_url: str) -> tuple[list[Replica], str]:
    """All replicas that published within the last seconds; and why that is not known, or ""."""
    replicas: list[Replica] = []
    try:
        with redis.Redis.from_url(
            flow_url, decode_responses=True, socket_timeout=_DEADLINE_S
        ) as client:
            for model in client.zrange(redis_keys.MODELS, 0, MODELS_MAX - 1):
                ids = client.zrange(redis_keys.replica_index(model), 0, _REPLICAS_MAX - 1)
                if not ids:
                    continue
                prefix = redis_keys.replica_record_prefix(model)
                texts = client.mget([prefix + replica_id for replica_id in ids])
                records = [parse_record(text) for text in texts if text]
                replicas += [record for record in records if record is not None]
    except (redis.RedisError, ValueError) as error:
        return [], str(error) or type(error).__name__
    return replicas, ""
