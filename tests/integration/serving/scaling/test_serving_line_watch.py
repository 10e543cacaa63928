"""What Ray's controller reads of a model, on the real flow Redis."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from serving.flow.demand import Demand
from serving.scaling.line_watch import LineView, LineWatch
from serving.scaling.scaling_policy import LinePolicy
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

TERMS: dict[str, Any] = {
    "replicas_min": 0,
    "replicas_max": 4,
    "adapters": ["poet"],
    "wait_s_target": 20,
    "down_after_s": 300,
    "to_zero_after_s": 900,
}

# At 0.8 s each, what a call to a flow Redis that stands still takes, they would take a minute more
# than the test has.
CALLS = 100
HANG_S = 20


class Context:
    """What Ray hands to a policy, as far as ours looks at it."""

    current_num_replicas = 0
    target_num_replicas = 0
    app_name = "floodgate--m"


@pytest.fixture
def flow_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of its own: gateways on the shared one write the pins of their ledger there."""
    with RedisServer.flow(tmp_path / "flow") as server:
        yield server


@pytest.fixture(autouse=True)
def environment(flow_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOODGATE_FLOW_URL", flow_server.url)


def until(condition: Callable[[], Any]) -> Any:
    while not (found := condition()):
        time.sleep(0.02)
    return found


def demand(flow: "Redis", waiting: int) -> None:
    record = {
        "version": 1,
        "waiting": waiting,
        "oldest_wait_s": 1,
        "tokens_owed": 9,
        "slots_used": 0,
    }
    flow.set("fg:demand:{m}", json.dumps(record))


def test_it_sees_demand_pin_and_replicas_and_outlives_a_restart(
    flow: "Redis", flow_server: RedisServer
) -> None:
    demand(flow, 2)
    flow.hset("fg:pins", "m", "3")
    record = {
        "replica_id": "r1",
        "state": "running",
        "slots": 8,
        "engine": {"running": 0, "generation_tokens": 0, "prompt_tokens": 0},
    }
    flow.set("fg:replica:{m}:r1", json.dumps(record))
    flow.zadd("fg:replicas:{m}", {"r1": time.time() * 1000})
    watch = LineWatch("m", replicas_max=4)

    def seen(view: LineView | None) -> tuple[Any, ...] | None:
        return None if view is None else (view.demand, view.pin, view.slots)

    until(lambda: seen(watch.view) == (Demand(2, 1.0, 9, 0), 3, 8))
    flow_server.pause()
    until(lambda: watch.view is None)  # too old to act on
    flow_server.resume()
    until(lambda: watch.view is not None)


def test_the_policy_starts_a_replica_for_the_first_who_waits_and_obeys_a_pin(
    flow: "Redis",
) -> None:
    policy, context = LinePolicy("m", **TERMS), Context()
    assert policy(context) == (0, {}), "nobody knows yet"
    demand(flow, 1)
    until(lambda: policy(context) == (1, {}))
    flow.hset("fg:pins", "m", "2")
    until(lambda: policy(context) == (2, {}))
    flow.delete("fg:pins")
    context.target_num_replicas = 1
    until(lambda: policy(context) == (1, {}))


def test_the_policy_waits_for_no_answer_of_a_flow_that_stands_still(
    flow: "Redis", flow_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in the loop of Ray's controller: all deployments would wait with it."""
    policy, context = LinePolicy("m", **TERMS), Context()
    demand(flow, 1)
    until(lambda: policy(context) == (1, {}))
    seen_at = time.monotonic()
    monkeypatch.setattr(policy._watch, "_clock", lambda: seen_at)  # what was seen stays fresh
    flow_server.pause()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(lambda: [policy(context) for _ in range(CALLS)])
        try:
            decided = asked.result(HANG_S)
        finally:
            flow_server.resume()
    assert decided == [(1, {})] * CALLS


def test_the_policy_tells_what_is_wanted_and_what_the_model_is_like_while_it_sleeps(
    flow: "Redis",
) -> None:
    facts = {"context_tokens_max": 99, "endpoints": ["completions"], "tokenizer": "/m"}
    record = {
        "replica_id": "r1",
        "state": "running",
        "slots": 8,
        "engine": {"running": 0, "generation_tokens": 0, "prompt_tokens": 0},
        **facts,
    }
    flow.set("fg:replica:{m}:r1", json.dumps(record))
    flow.zadd("fg:replicas:{m}", {"r1": time.time() * 1000})
    held, context = [LinePolicy("m", **TERMS)], Context()
    until(lambda: held[0]._watch.view)
    assert not flow.exists("fg:model:{m}"), "nobody has asked for a decision yet"
    demand(flow, 1)
    until(lambda: held[0](context) == (1, {}))
    flow.delete("fg:replica:{m}:r1")
    expected = {
        "version": 1,
        "replicas_wanted": 1,
        "replicas_max": 4,
        "adapters": ["poet"],
        **facts,
        "start_failure": "",
    }
    until(lambda: json.loads(flow.get("fg:model:{m}") or "{}") == expected)
    assert flow.zscore("fg:models", "m") is not None
    held.clear()
    until(lambda: not flow.exists("fg:model:{m}"))


def test_a_policy_that_is_asked_no_more_tells_nobody_that_replicas_are_wanted(
    flow: "Redis",
) -> None:
    """Ray keeps it until the last replica of a deleted model has drained."""
    now = [100.0]
    watch = LineWatch("m", replicas_max=4, clock=lambda: now[0])
    watch.tell(1)
    until(lambda: flow.exists("fg:model:{m}"))
    now[0] += 60
    until(lambda: watch.view)  # a round that began later
    flow.delete("fg:model:{m}")
    now[0] += 1
    until(lambda: watch.view and watch.view.read_at == now[0])
    now[0] += 1
    until(lambda: watch.view and watch.view.read_at == now[0])
    assert not flow.exists("fg:model:{m}")
    watch.tell(1)
    until(lambda: flow.exists("fg:model:{m}"))
