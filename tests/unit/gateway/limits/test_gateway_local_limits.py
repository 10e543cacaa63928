"""A worker's share, by a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import local_limits
from gateway.limits.local_limits import LocalLimits
from gateway.limits.reservation import Budget, Decision, Reservation, Terms, Verdict
from tests.plans_file import plan

BUDGET = Budget(60, 1_000, 3_000)


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0  # half past one in the afternoon, UTC

    def __call__(self) -> float:
        return self.now


def held(decision: Decision, tokens: int) -> Reservation:
    return Reservation(
        *("a", plan(), "m", 0, 0, 1, tokens, (), decision.today, 0),
        *(decision.leaked_at_us, decision.request_leaked_at_us, BUDGET),
    )


def test_each_limit_refuses_with_its_own_verdict() -> None:
    clock = Clock()
    limits = LocalLimits(clock)
    assert limits.reserve("a", BUDGET, Terms(1_000, 0, 0, 0)).verdict is Verdict.RESERVED
    refused = limits.reserve("a", BUDGET, Terms(10, 0, 0, 0))
    assert (refused.verdict, refused.wait_ms) == (Verdict.NO_TOKENS, 600)
    for _ in range(2):
        clock.now += 60
        assert limits.reserve("a", BUDGET, Terms(1_000, 0, 0, 0)).verdict is Verdict.RESERVED
    clock.now += 60
    assert limits.reserve("a", BUDGET, Terms(1, 0, 0, 0)).verdict is Verdict.NO_TOKENS_TODAY
    for _ in range(60):
        assert limits.reserve("b", BUDGET, Terms(0, 0, 0, 0)).verdict is Verdict.RESERVED
    refused = limits.reserve("b", BUDGET, Terms(0, 0, 0, 0))
    assert (refused.verdict, refused.wait_ms) == (Verdict.NO_REQUEST, 1000)


def test_the_day_begins_anew_at_midnight_utc() -> None:
    clock = Clock()
    limits = LocalLimits(clock)
    for _ in range(3):
        limits.reserve("a", BUDGET, Terms(1_000, 0, 0, 0))
        clock.now += 60
    refused = limits.reserve("a", BUDGET, Terms(1, 0, 0, 0))
    assert refused.verdict is Verdict.NO_TOKENS_TODAY
    clock.now += refused.wait_ms / 1000
    assert limits.reserve("a", BUDGET, Terms(1, 0, 0, 0)).verdict is Verdict.RESERVED


def test_an_answer_without_a_cap_takes_what_is_left() -> None:
    limits = LocalLimits(Clock())
    assert limits.reserve("a", BUDGET, Terms(100, 2, 1_000, 64)).cap == 450
    assert limits.reserve("b", BUDGET, Terms(900, 2, 1_000, 64)).verdict is Verdict.NO_TOKENS


def test_settlement_refunds_charges_and_gives_back() -> None:
    limits = LocalLimits(Clock())
    first = limits.reserve("a", BUDGET, Terms(800, 0, 0, 0))
    limits.settle(held(first, 800), BUDGET, 100, requests_back=0)
    second = limits.reserve("a", BUDGET, Terms(900, 0, 0, 0))
    assert second.verdict is Verdict.RESERVED
    assert second.requests.remaining == 58
    limits.settle(held(second, 900), BUDGET, 0, requests_back=1)
    third = limits.reserve("a", BUDGET, Terms(100, 0, 0, 0))
    assert (third.requests.remaining, third.tokens.remaining) == (58, 800)
    limits.settle(held(third, 100), BUDGET, 500, requests_back=0)
    assert limits.reserve("a", BUDGET, Terms(401, 0, 0, 0)).verdict is Verdict.NO_TOKENS


def test_a_request_that_has_leaked_out_is_not_given_back_once_more() -> None:
    """Else five that were refused after a minute would let five more than the limit pass."""
    clock = Clock()
    limits = LocalLimits(clock)
    long_ago = [limits.reserve("a", BUDGET, Terms(0, 0, 0, 0)) for _ in range(5)]
    clock.now += 60
    lately = limits.reserve("a", BUDGET, Terms(0, 0, 0, 0))
    for decision in (*long_ago, lately):
        limits.settle(held(decision, 0), BUDGET, 0, requests_back=1)
    passed = [limits.reserve("a", BUDGET, Terms(0, 0, 0, 0)).verdict for _ in range(65)]
    assert passed.count(Verdict.RESERVED) == 60


def test_memory_stays_bounded_and_the_idle_are_forgotten_first(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(local_limits, "_ACCOUNTS_MAX", 10)
    clock = Clock()
    limits = LocalLimits(clock)
    for number in range(5):
        limits.reserve(f"idle {number}", BUDGET, Terms(1, 0, 0, 0))
    clock.now += 61
    limits.reserve("busy", BUDGET, Terms(1_000, 0, 0, 0))
    for number in range(9):
        limits.reserve(f"new {number}", BUDGET, Terms(1, 0, 0, 0))
    assert limits.reserve("busy", BUDGET, Terms(100, 0, 0, 0)).verdict is Verdict.NO_TOKENS


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 30_000),
            st.integers(0, 400),
            st.integers(0, 3),
            st.integers(1, 400),
            st.booleans(),
            st.floats(0, 1),
        ),
        max_size=60,
    )
)
def test_use_never_passes_minute_or_day_however_requests_come_and_end(
    steps: list[tuple[int, int, int, int, bool, float]],
) -> None:
    clock = Clock()
    limits, began_at, used = LocalLimits(clock), clock.now, 0
    open_: list[tuple[Reservation, int]] = []
    for gap_ms, prompt, choices, cap, named, share in steps:
        clock.now += gap_ms / 1000
        terms = Terms(prompt, choices, cap, cap if named else 1)
        made = limits.reserve("a", BUDGET, terms)
        if made.verdict is Verdict.RESERVED:
            tokens = prompt + choices * made.cap
            open_.append((held(made, tokens), round(tokens * share)))
        if share < 0.5 and open_:
            reservation, really = open_.pop(len(open_) // 2)
            limits.settle(reservation, BUDGET, really, requests_back=0)
            used += really
        assert used <= 3_000
        assert used <= 1_000 + 1_000 * (clock.now - began_at) / 60 + 1
