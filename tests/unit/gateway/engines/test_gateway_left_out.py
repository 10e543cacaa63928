"""Replicas that no connection could be made to, by a clock of the test's own."""

from gateway.engines.left_out import LeftOut
from gateway.engines.replica_record import Replica


def record(published_at_ms: int) -> Replica:
    return Replica(
        model="moss",
        replica_id="r1",
        url="http://127.0.0.1:1",
        state="running",
        slots=4,
        published_at_ms=published_at_ms,
    )


def test_a_replica_that_publishes_no_more_stays_out_until_it_is_listed_no_more() -> None:
    left_out = LeftOut()
    left_out.add("r1", 100.0)
    for second in range(6):
        left_out.look([record(7)], 100.1 + second)
        assert left_out.ids(100.2 + second) == {"r1"}
    left_out.look([], 106.1)
    assert not left_out.ids(106.1)


def test_one_that_has_published_since_is_taken_back() -> None:
    left_out = LeftOut()
    left_out.add("r1", 100.0)
    left_out.look([record(7)], 100.5)
    left_out.look([record(8)], 101.5)
    assert not left_out.ids(101.5)


def test_records_that_were_written_before_the_failure_take_nobody_back() -> None:
    left_out = LeftOut()
    left_out.add("r1", 100.0)
    left_out.look([record(7)], 99.9)  # was being read as the connection was refused
    left_out.look([record(8)], 100.9)  # was written before it, and read after it
    assert left_out.ids(100.9) == {"r1"}
    left_out.look([record(9)], 101.9)
    assert not left_out.ids(101.9)


def test_nobody_is_left_out_for_long_while_no_record_can_be_read() -> None:
    left_out = LeftOut()
    left_out.add("r1", 100.0)
    assert left_out.ids(107.0) == {"r1"}
    assert not left_out.ids(107.1)
    left_out.look([record(7)], 108.0)
    assert not left_out.ids(108.0)
