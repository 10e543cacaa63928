from serving.engine.hang_watch import HangWatch
from serving.flow.record import EngineLoad


def test_an_engine_with_work_that_does_nothing_hangs() -> None:
    watch = HangWatch(10)
    load = EngineLoad(running=2, generation_tokens=5)
    assert not any(watch.look(load, unfinished=2, now=now) for now in range(11))
    assert watch.look(load, unfinished=2, now=10.5)


def test_one_that_moves_does_not() -> None:
    watch = HangWatch(10)
    for now in range(0, 100, 9):
        tokens = EngineLoad(running=1, generation_tokens=now)
        assert not watch.look(tokens, unfinished=1, now=now)


def test_a_long_prefill_moves_the_cache_and_no_token() -> None:
    watch = HangWatch(10)
    for now in range(0, 100, 9):
        assert not watch.look(EngineLoad(running=1, kv_use=now / 100), unfinished=1, now=now)


def test_one_that_has_nothing_to_do_does_not_hang_and_its_time_begins_with_work() -> None:
    watch = HangWatch(10)
    assert not any(watch.look(EngineLoad(), unfinished=0, now=now) for now in range(100))
    # Stopped while it was idle: its gauges never learn of the request.
    assert not watch.look(EngineLoad(), unfinished=1, now=105)
    assert watch.look(EngineLoad(), unfinished=1, now=110)
