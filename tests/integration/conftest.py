"""Real Redis processes, one pair for the whole run, handed to each test empty and running."""

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def ledger_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer.ledger(tmp_path_factory.mktemp("ledger")) as server:
        yield server


@pytest.fixture(scope="session")
def flow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer.flow(tmp_path_factory.mktemp("flow")) as server:
        yield server


@pytest.fixture
def ledger_server(ledger_process: RedisServer) -> RedisServer:
    """The ledger Redis (appendonly, fsync always), empty. Kill, pause or restart it at will."""
    ledger_process.make_ready()
    return ledger_process


@pytest.fixture
def flow_server(flow_process: RedisServer) -> RedisServer:
    """The flow Redis (nothing kept), empty. Kill, pause or restart it at will."""
    flow_process.make_ready()
    return flow_process
