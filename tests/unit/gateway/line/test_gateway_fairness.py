import pytest

from gateway.line.fairness import Service, jain, served_between


def test_equal_shares_are_perfectly_fair_and_one_for_all_is_not() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([9.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert jain([]) == jain([0.0, 0.0]) == 1.0


def test_only_accounts_that_were_there_throughout_count() -> None:
    before = {
        "stayed": Service("t1", 10.0),
        "left": Service("t2", 5.0),
        "left and came back": Service("t3", 50.0),
        "came back and got more": Service("t4", 2.0),
    }
    after = {
        "stayed": Service("t1", 40.0),
        "left and came back": Service("t5", 2.0),
        "came back and got more": Service("t6", 90.0),
        "new": Service("t7", 7.0),
    }
    assert served_between(before, after) == [30.0]
