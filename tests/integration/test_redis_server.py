"""What other suites rely on in the Redis processes of the tests."""

import pytest
import redis

from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


def test_ledger_keeps_its_data_and_port_over_kill_and_restart(ledger_server: RedisServer) -> None:
    url = ledger_server.url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    ledger_server.kill()
    assert not ledger_server.is_running()
    ledger_server.restart()
    assert ledger_server.url == url
    with redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.get("kept") == "yes"
        assert client.config_get("append*")["appendfsync"] == "always"


def test_flow_forgets_over_restart(flow_server: RedisServer) -> None:
    with redis.Redis.from_url(flow_server.url) as client:
        client.set("kept", "no")
    flow_server.restart()
    with redis.Redis.from_url(flow_server.url) as client:
        assert client.get("kept") is None


def test_paused_server_does_not_answer_until_resumed(flow_server: RedisServer) -> None:
    with redis.Redis.from_url(flow_server.url, socket_timeout=0.1) as client:
        flow_server.pause()
        with pytest.raises(redis.RedisError):
            client.ping()
        flow_server.resume()
    with redis.Redis.from_url(flow_server.url) as client:
        assert client.ping()


@pytest.mark.parametrize("left_as", ["killed", "paused", "stopped"])
def test_next_test_gets_a_running_empty_server(ledger_server: RedisServer, left_as: str) -> None:
    with redis.Redis.from_url(ledger_server.url) as client:
        client.set("left", "behind")
    {"killed": ledger_server.kill, "paused": ledger_server.pause, "stopped": ledger_server.stop}[
        left_as
    ]()
    ledger_server.make_ready()
    with redis.Redis.from_url(ledger_server.url) as client:
        assert not client.exists("left")  # a gateway that tests share may write at once


def test_stranger_without_password_is_refused(ledger_server: RedisServer) -> None:
    with (
        redis.Redis(port=ledger_server.port) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
