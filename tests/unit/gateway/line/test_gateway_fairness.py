import pytest

from gateway.line.fairness import jain, served_between


def test_equal_shares_are_perfectly_fair_and_one_for_all_is_not() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([9.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert jain([]) == jain([0.0, 0.0]) == 1.0


def test_only_accounts_that_were_there_throughout_count() -> None:
    before = {"stayed": 10.0, "left": 5.0, "left and came back": 50.0}
    after = {"stayed": 40.0, "left and came back": 2.0, "new": 7.0}
    assert served_between(before, after) == [30.0]
