from typing import Any

from serving.scaling.replica_pace import ReplicaPace


def record(state: str = "running", running: int = 32, tokens: int = 0, **more: Any) -> Any:
    engine = {"running": running, "generation_tokens": tokens, "prompt_tokens": 0}
    return {"replica_id": "a", "state": state, "slots": 32, "engine": engine, **more}


def test_a_start_is_timed_from_its_first_record() -> None:
    pace = ReplicaPace()
    for now in range(10, 51):
        pace.look([record("starting")], now)
    pace.look([record(running=0)], 52)
    assert pace.start_s == 42


def test_a_start_that_failed_says_nothing() -> None:
    pace, assumed = ReplicaPace(), ReplicaPace().start_s
    pace.look([record("starting")], 10)
    pace.look([], 15)
    pace.look([record(running=0)], 16)
    assert pace.start_s == assumed


def test_tokens_count_while_the_replica_is_full() -> None:
    pace = ReplicaPace()
    for now in range(21):
        pace.look([record(running=5, tokens=now * 90)], now)
    assert pace.tokens_per_s is None, "a few callers say nothing of what it can do"
    for now in range(21, 41):
        pace.look([record(tokens=now * 500)], now)
    assert pace.tokens_per_s == 500
    for now in range(41, 100):
        pace.look([record(tokens=20_000 + (now - 40) * 300)], now)
    assert pace.tokens_per_s is not None
    assert 295 < pace.tokens_per_s < 310


def test_slots_are_what_replicas_offer() -> None:
    pace = ReplicaPace()
    pace.look([record("starting", slots=99)], 0)
    assert pace.slots is None
    pace.look([record(slots=24)], 1)
    assert pace.slots == 24
