"""Slots follow what the engine can run."""

from collections.abc import Iterator

import pytest

from serving.engine.slot_rule import SlotRange, SlotRule
from serving.flow.record import EngineLoad


class Engine:
    """A replica looked at once a second."""

    def __init__(self, least: int = 4, most: int = 64, start: int = 32, standby: int = 0) -> None:
        self.rule = SlotRule(SlotRange(least, start, most, standby))
        self._seconds: Iterator[int] = iter(range(10_000))

    def look(self, times: int = 1, *, line_waits: bool = True, **load: float) -> int:
        for _ in range(times):
            found = EngineLoad(**load)  # type: ignore[arg-type]
            self.rule.look(found, line_waits=line_waits, now=float(next(self._seconds)))
        return self.rule.slots


def test_a_preemption_gives_way_at_once_and_holds() -> None:
    engine = Engine()
    assert engine.look(running=32, kv_use=0.99, preemptions=1) == 24
    assert engine.look(9, running=24, kv_use=0.3, preemptions=1) == 24, "those who run still grow"
    assert engine.look(3, running=24, kv_use=0.3, preemptions=1) > 24


def test_preemptions_before_the_first_look_count_once() -> None:
    engine = Engine()
    engine.look(running=8, preemptions=5)
    assert engine.look(5, running=24, kv_use=0.99, preemptions=5) == 24


def test_an_engine_that_keeps_requests_waiting_offers_what_it_runs() -> None:
    engine = Engine()
    assert engine.look(3, running=20, waiting=6) == 32, "two looks may be between two steps"
    assert engine.look(running=20, waiting=6) == 20


def test_an_engine_that_still_reads_in_what_came_at_once_keeps_its_slots() -> None:
    """Steps hold so many tokens: of 32 prompts that come together only some are begun in each."""
    engine = Engine(most=32)
    for running in range(4, 32, 4):
        assert engine.look(running=running, waiting=32 - running) == 32


def test_choices_of_one_request_that_wait_for_their_turn_are_no_queue() -> None:
    engine = Engine(most=32)
    assert engine.look(10, running=32, waiting=8) == 32


def test_more_when_the_line_waits_and_there_is_room() -> None:
    engine = Engine()
    assert engine.look(3, running=32, kv_use=0.5) == 36
    assert engine.look(2, running=36, kv_use=0.5) == 36, "one step in three looks"
    assert engine.look(50, running=64, kv_use=0.5) == 64, "the operator's bound"


@pytest.mark.parametrize(
    ("line_waits", "load"),
    [
        (False, {"running": 32, "kv_use": 0.5}),
        (True, {"running": 20, "kv_use": 0.5}),
        (True, {"running": 32, "kv_use": 0.85}),
        (True, {"running": 32, "waiting": 1, "kv_use": 0.5}),
    ],
    ids=["nobody waits", "slots are free", "the cache would be full", "the engine queues"],
)
def test_no_more_where_it_would_not_help(line_waits: bool, load: dict[str, float]) -> None:
    assert Engine().look(20, line_waits=line_waits, **load) == 32


def test_never_below_the_least() -> None:
    engine = Engine(least=10)
    for preemptions in range(1, 12):
        engine.look(running=32, preemptions=preemptions)
    assert engine.rule.slots == 10
    assert engine.look(5, running=0, waiting=5, preemptions=11) == 10


def test_it_settles_where_the_cache_is_just_full_enough() -> None:
    """An engine whose cache holds 40 requests: the line always waits, and nothing is preempted."""
    engine, preemptions = Engine(start=64), 0
    seen = []
    for _ in range(300):
        running = engine.rule.slots
        preemptions += running > 40
        engine.look(running=running, kv_use=min(1.0, running / 40), preemptions=preemptions)
        seen.append(engine.rule.slots)
    assert set(seen[20:]) <= set(range(32, 41)), seen


def test_an_engine_that_runs_its_whole_batch_is_offered_some_on_standby() -> None:
    engine = Engine(most=32, standby=2)
    assert engine.rule.offered == 34
    assert engine.look(20, running=32, waiting=2) == 32
    assert engine.look(20, running=31, waiting=2) == 32, "between the end of one and the next step"
    assert engine.rule.offered == 34


def test_an_engine_that_keeps_more_waiting_than_stand_by_offers_what_it_runs() -> None:
    engine = Engine(most=32, standby=2)
    assert engine.look(4, running=20, waiting=14) == 20
    assert engine.rule.offered == 20, "it would run those on standby too"


def test_nothing_stands_by_before_the_slots_have_risen_to_the_whole_batch() -> None:
    engine = Engine(most=34, standby=2)
    assert engine.rule.offered == 32
    assert engine.look(3, running=32, kv_use=0.5) == 34
    assert engine.rule.offered == 36
