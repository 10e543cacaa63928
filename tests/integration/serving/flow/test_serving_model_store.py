"""A model's keys on a real flow Redis."""

import pytest
from redis import Redis

from serving.flow import redis_keys
from serving.flow.model_store import ModelStore, note_models
from serving.flow.record import RECORD_LIFE_MS
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


def test_a_models_own_record_says_that_somebody_keeps_its_replicas(
    flow: Redis, flow_server: RedisServer
) -> None:
    store = ModelStore(flow_server.url, model="kept")
    store.write("zero wanted")
    assert flow.get(redis_keys.model_record("kept")) == "zero wanted"
    assert 0 < flow.pttl(redis_keys.model_record("kept")) <= RECORD_LIFE_MS
    assert flow.zscore(redis_keys.MODELS, "kept") is not None
    store.close()


def test_models_that_nothing_runs_of_are_known(flow: Redis, flow_server: RedisServer) -> None:
    note_models(flow_server.url, ["broken", "missing"])
    assert {"broken", "missing"} <= set(flow.zrange(redis_keys.MODELS, 0, -1))


def test_a_redis_that_is_gone_stops_no_start() -> None:
    note_models("redis://127.0.0.1:1/0", ["broken"])
