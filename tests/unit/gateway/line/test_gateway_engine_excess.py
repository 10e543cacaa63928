from gateway.line.engine_excess import EXCESS_LOOKS, IDLE_LOOKS, LastingExcess


def test_what_three_looks_in_a_row_show_is_excess() -> None:
    excess = LastingExcess(EXCESS_LOOKS)
    assert [excess.look("a", 12, 8) for _ in range(2)] == [0, 0]
    assert excess.look("a", 10, 8) == 2, "what the three have in common"
    assert excess.look("a", 20, 8) == 2


def test_a_difference_in_time_is_none() -> None:
    excess = LastingExcess(EXCESS_LOOKS)
    for in_engine, used in ((32, 32), (32, 5), (5, 5), (6, 5)):
        found = excess.look("a", in_engine, used)
    assert found == 0


def test_fewer_in_the_engine_than_held_is_no_room_beyond_the_slots() -> None:
    excess = LastingExcess(EXCESS_LOOKS)
    assert [excess.look("a", 0, 8) for _ in range(4)] == [0] * 4


def test_slots_without_work_are_those_that_half_a_minute_of_looks_has_shown() -> None:
    idle = LastingExcess(IDLE_LOOKS)
    assert [idle.look("a", 8, 5) for _ in range(29)] == [0] * 29
    assert idle.look("a", 8, 6) == 2
    assert idle.look("a", 8, 8) == 0, "one look at which all worked"
    assert [idle.look("a", 8, 0) for _ in range(29)] == [0] * 29
    assert idle.look("a", 8, 0) == 8


def test_replicas_that_are_gone_are_forgotten() -> None:
    excess = LastingExcess(EXCESS_LOOKS)
    for _ in range(3):
        excess.look("a", 9, 0)
    excess.forget_all_but({"b"})
    assert excess.look("a", 9, 0) == 0
