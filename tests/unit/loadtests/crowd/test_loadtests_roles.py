from collections import Counter

from loadtests.crowd.roles import Roles

CALM = {"patient": 3}
SPIKE = {"patient": 4, "greedy": 2, "crowd": 1}


def test_each_kind_gets_as_many_users_as_the_stage_wants() -> None:
    roles = Roles()
    roles.want(SPIKE)
    assert Counter(roles.take() for _ in range(7)) == SPIKE


def test_users_keep_their_kind_into_the_next_stage() -> None:
    roles = Roles()
    roles.want(CALM)
    kinds = [roles.take() for _ in range(3)]
    roles.want(SPIKE)
    assert [roles.take(kind) for kind in kinds] == kinds
    for _ in range(4):
        roles.take()
    assert roles.taken == SPIKE


def test_users_change_when_a_stage_wants_fewer_of_their_kind() -> None:
    roles = Roles()
    roles.want(SPIKE)
    kinds = [roles.take() for _ in range(7)]
    kept = ["crowd", "greedy", "greedy"]
    for kind in kinds:
        if kind == "patient":
            roles.give_back(kind)
    roles.want(CALM)
    assert [roles.take(kind) for kind in kept] == ["patient"] * 3
    assert roles.taken == CALM


def test_one_too_many_waits_for_its_end_in_a_wanted_kind() -> None:
    roles = Roles()
    roles.want({"patient": 1})
    assert [roles.take(), roles.take()] == ["patient", "patient"]
    assert roles.take("patient") == "patient"
