"""The publisher on a real Redis that goes away, stands still and comes back."""

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from redis import Redis

from serving.flow import redis_keys
from serving.flow.record import RECORD_LIFE_MS
from tests.integration.serving.conftest import MakePublisher
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

RECORD = redis_keys.replica_record("m", "r1")
REPLICAS = redis_keys.model_replicas("m")
WAIT_S_MAX = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def redis_now_ms(flow: Redis) -> int:
    seconds, microseconds = flow.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def test_publishes_at_once(flow: Redis, publish: MakePublisher) -> None:
    publish("r1", lambda: "one")
    until(lambda: flow.get(RECORD) == "one")
    assert 0 < flow.pttl(RECORD) <= RECORD_LIFE_MS
    now_ms = redis_now_ms(flow)
    expires_at_ms = flow.zscore(REPLICAS, "r1")
    assert expires_at_ms is not None
    assert now_ms < expires_at_ms <= now_ms + RECORD_LIFE_MS
    model_known_at_ms = flow.zscore(redis_keys.MODELS, "m")
    assert model_known_at_ms is not None
    assert abs(model_known_at_ms - now_ms) < RECORD_LIFE_MS


def test_publishes_again_and_again(flow: Redis, publish: MakePublisher) -> None:
    count = itertools.count()
    publish("r1", lambda: str(next(count)))
    until(lambda: str(flow.get(RECORD) or "0") >= "2")


def test_a_change_is_published_at_once(flow: Redis, publish: MakePublisher) -> None:
    state = {"record": "running"}
    publisher = publish("r1", lambda: state["record"])
    until(lambda: flow.get(RECORD) == "running")
    state["record"] = "draining"
    publisher.publish_soon()
    until(lambda: flow.get(RECORD) == "draining")


def test_a_stop_removes_the_record_and_keeps_the_model(flow: Redis, publish: MakePublisher) -> None:
    publisher = publish("r1", lambda: "one")
    until(lambda: flow.exists(RECORD) == 1)
    publisher.stop()
    assert flow.exists(RECORD) == 0
    assert flow.zscore(REPLICAS, "r1") is None
    assert flow.zscore(redis_keys.MODELS, "m") is not None


def test_it_turns_to_another_record_at_once(flow: Redis, publish: MakePublisher) -> None:
    publisher = publish("r1", lambda: "starting")
    until(lambda: flow.get(RECORD) == "starting")
    publisher.turn_to(lambda: "running")
    until(lambda: flow.get(RECORD) == "running")


def test_says_nothing_while_there_is_nothing_to_say(flow: Redis, publish: MakePublisher) -> None:
    asked = threading.Event()

    def nothing() -> None:
        asked.set()

    publisher = publish("r1", nothing)
    assert asked.wait(WAIT_S_MAX)
    publisher.stop()
    # Not all keys: a gateway that other tests share may write of its own pool at any time.
    assert flow.exists(RECORD, REPLICAS, redis_keys.MODELS) == 0


def test_outlives_a_fault_in_the_record(flow: Redis, publish: MakePublisher) -> None:
    tries = itertools.count()

    def record() -> str:
        if next(tries) == 0:
            raise KeyError("a bug")
        return "fine"

    publish("r1", record).publish_soon()
    until(lambda: flow.get(RECORD) == "fine")


def test_continues_after_a_killed_redis(
    flow: Redis, flow_server: RedisServer, publish: MakePublisher
) -> None:
    publish("r1", lambda: "one")
    until(lambda: flow.exists(RECORD) == 1)
    flow_server.kill()
    flow_server.start()
    until(lambda: flow.get(RECORD) == "one")


def test_starts_while_redis_is_down(
    flow: Redis, flow_server: RedisServer, publish: MakePublisher
) -> None:
    flow_server.kill()
    publish("r1", lambda: "one")
    flow_server.start()
    until(lambda: flow.get(RECORD) == "one")


def test_a_redis_that_stands_still_holds_nothing_up(
    flow: Redis, flow_server: RedisServer, publish: MakePublisher
) -> None:
    asked = itertools.count()
    latest = [0]

    def record() -> str:
        latest[0] = next(asked)
        return "one"

    publish("r1", record)
    until(lambda: flow.exists(RECORD) == 1)
    flow_server.pause()
    before = latest[0]
    until(lambda: latest[0] >= before + 2)
    flow_server.resume()
    flow.delete(RECORD)
    until(lambda: flow.get(RECORD) == "one")


def test_a_stop_ends_while_redis_stands_still(
    flow: Redis, flow_server: RedisServer, publish: MakePublisher
) -> None:
    publisher = publish("r1", lambda: "one")
    until(lambda: flow.exists(RECORD) == 1)
    flow_server.pause()
    publisher.stop()
    flow_server.resume()


def test_the_dead_are_taken_off_the_list(flow: Redis, publish: MakePublisher) -> None:
    flow.zadd(REPLICAS, {"killed": redis_now_ms(flow) - 1, "alive": redis_now_ms(flow) + 60_000})
    publish("r1", lambda: "one")
    until(lambda: flow.zrange(REPLICAS, 0, -1) == ["r1", "alive"])


def test_replicas_do_not_touch_each_other(flow: Redis, publish: MakePublisher) -> None:
    first = publish("r1", lambda: "one")
    publish("r2", lambda: "two")
    until(lambda: flow.zcard(REPLICAS) == 2)
    first.stop()
    assert flow.zrange(REPLICAS, 0, -1) == ["r2"]
    assert flow.get(redis_keys.replica_record("m", "r2")) == "two"
