from gateway.gcra import Gcra


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_idle_account_may_use_its_whole_minute_at_once() -> None:
    gcra = Gcra(Clock())
    states = [gcra.take("acct", 60) for _ in range(61)]
    assert [s.allowed for s in states] == [True] * 60 + [False]
    assert [s.remaining for s in states[:3]] == [59, 58, 57]
    assert states[60].remaining == 0


def test_the_refused_are_told_when_the_next_request_fits() -> None:
    clock = Clock()
    gcra = Gcra(clock)
    for _ in range(60):
        gcra.take("acct", 60)
    refused = gcra.take("acct", 60)
    assert refused.retry_after_s == 1.0
    clock.now += refused.retry_after_s
    assert gcra.take("acct", 60).allowed
    assert not gcra.take("acct", 60).allowed


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    gcra = Gcra(clock)
    for _ in range(500):
        gcra.take("acct", 60)
    clock.now += 1.0
    assert gcra.take("acct", 60).allowed


def test_idle_time_is_not_saved_up_beyond_one_minute() -> None:
    clock = Clock()
    gcra = Gcra(clock)
    gcra.take("acct", 60)
    clock.now += 3600
    assert sum(gcra.take("acct", 60).allowed for _ in range(200)) == 60


def test_accounts_do_not_share() -> None:
    gcra = Gcra(Clock())
    for _ in range(60):
        gcra.take("greedy", 60)
    assert not gcra.take("greedy", 60).allowed
    assert gcra.take("other", 60).allowed


def test_reset_says_when_the_whole_minute_is_free_again() -> None:
    clock = Clock()
    gcra = Gcra(clock)
    for _ in range(30):
        state = gcra.take("acct", 60)
    assert abs(state.reset_s - 30.0) < 1e-6
    clock.now += state.reset_s
    assert gcra.take("acct", 60).remaining == 59
