"""A replica's keys on a real flow Redis."""

import pytest
from redis import Redis

from serving.flow import redis_keys
from serving.flow.demand import Demand
from serving.flow.record_store import RecordStore
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


def test_a_model_name_that_looks_like_a_key(flow: Redis, flow_server: RedisServer) -> None:
    name = "owner/mo}del: x"
    store = RecordStore(flow_server.url, model=name, replica_id="r1")
    store.write("one")
    assert flow.zrange(redis_keys.MODELS, 0, -1) == [name]
    store.remove()
    store.close()


def test_a_replica_learns_what_its_line_asks_for(flow: "Redis", flow_server: RedisServer) -> None:
    store = RecordStore(flow_server.url, model="m", replica_id="r1")
    store.write("{}")
    assert store.demand is None, "nobody says"
    flow.set(
        "fg:demand:{m}",
        '{"version":1,"waiting":2,"oldest_wait_s":1,"tokens_owed":9,"slots_used":4}',
    )
    store.write("{}")
    assert store.demand == Demand(2, 1.0, 9, 4)
    flow.delete("fg:demand:{m}")
    store.write("{}")
    assert store.demand is None
    store.close()
