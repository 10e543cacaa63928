"""A replica's record store and publisher on the real flow Redis."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from redis import Redis

from serving.flow.publisher import Publisher
from serving.flow.record_store import RecordStore
from tests.redis_server import RedisServer

MakePublisher = Callable[[str, Callable[[], str | None]], Publisher]


@pytest.fixture
def flow(flow_server: RedisServer) -> Iterator["Redis"]:
    with Redis.from_url(flow_server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def publish(flow_server: RedisServer) -> Iterator[MakePublisher]:
    """Starts the publisher of one replica of model "m"."""
    with ExitStack() as stack:

        def start(replica_id: str, record: Callable[[], str | None]) -> Publisher:
            store = RecordStore(flow_server.url, model="m", replica_id=replica_id)
            publisher = Publisher(store, record)
            publisher.start()
            stack.callback(publisher.stop)
            return publisher

        yield start
