"""What serving reads on the real flow Redis, of this version and of others."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from serving.flow.demand import Demand
from serving.flow.flow_reader import FlowLook, FlowReader
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

DEMAND = {"version": 1, "waiting": 2, "oldest_wait_s": 1, "tokens_owed": 9, "slots_used": 4}


@pytest.fixture
def reader(flow_server: RedisServer) -> Iterator[FlowReader]:
    reader = FlowReader(flow_server.url, model="m")
    yield reader
    reader.close()


def write(flow: "Redis", demand: Any, pin: str, **replicas: Any) -> None:
    flow.set("fg:demand:{m}", json.dumps(demand))
    flow.hset("fg:pins", "m", pin)
    for name, record in replicas.items():
        flow.set(f"fg:replica:{{m}}:{name}", record)
        flow.zadd("fg:replicas:{m}", {name: time.time() * 1000})


def test_all_of_this_version_is_read(flow: "Redis", reader: FlowReader) -> None:
    write(flow, DEMAND, "3", r1='{"version": 1, "replica_id": "r1"}')
    replica = {"version": 1, "replica_id": "r1"}
    assert reader.look() == FlowLook(Demand(2, 1.0, 9, 4), 3, (replica,))


def test_what_is_of_another_version_or_broken_is_skipped_with_one_warning(
    flow: "Redis", reader: FlowReader, caplog: pytest.LogCaptureFixture
) -> None:
    readable = '{"version": 1, "replica_id": "r1"}'
    write(
        flow,
        {**DEMAND, "version": 2},
        "three",
        r1=readable,
        r2='{"version": 2, "id": "r2"}',
        r3="{",
        r4="[]",
    )
    with caplog.at_level(logging.WARNING):
        looks = [reader.look() for _ in range(5)]
    assert looks == [FlowLook(None, None, (json.loads(readable),))] * 5
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "the demand record is broken or of another version",
        "the pin is broken or of another version",
        "the record of a replica is broken or of another version",
    ]
