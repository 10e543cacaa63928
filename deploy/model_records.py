"""What is published of each model on the flow Redis, for `floodgate scale` and `status`."""

from dataclasses import dataclass

import redis

from deploy.errors import Refused
from deploy.replica_records import MODELS_MAX, read_replicas
from gateway.engines.replica_record import parse_model
from gateway.flow import redis_keys

_DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class ModelReplicas:
    """`replicas_wanted` and `replicas_max` are None where nobody keeps the model's replicas.

    `start_failure`: why none of them could start at the last try; else empty.
    """

    model: str
    running: int
    replicas_wanted: int | None
    replicas_max: int | None
    start_failure: str


def read_models(flow_url: str) -> list[ModelReplicas]:
    """All models that are known. Raises Refused when the flow Redis does not answer."""
    replicas, error = read_replicas(flow_url)
    if error:
        raise Refused(f"The flow Redis does not answer: {error}.")
    running = [found.model for found in replicas if found.state == "running"]
    try:
        with redis.Redis.from_url(
            flow_url, decode_responses=True, socket_timeout=_DEADLINE_S
        ) as client:
            names = client.zrange(redis_keys.MODELS, 0, MODELS_MAX - 1)
            texts = [client.get(redis_keys.model_record(name)) for name in names]
    except redis.RedisError as lost:
        raise Refused(f"The flow Redis does not answer: {lost}.") from lost
    records = [parse_model(text or "") for text in texts]
    return [
        ModelReplicas(
            name,
            running.count(name),
            record.replicas_wanted if record else None,
            record.replicas_max if record else None,
            record.start_failure if record else "",
        )
        for name, record in zip(names, records, strict=True)
    ]
