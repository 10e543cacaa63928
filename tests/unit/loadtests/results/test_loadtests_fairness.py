import pytest

from loadtests.crowd.chat_record import ChatRecord
from loadtests.results.fairness import (
    jain,
    largest_gap,
    service_between,
    service_by_account,
    share_errors,
    tokens_between,
    vtc_bound,
)


def chat(account: str, sent_at_s: float, **changes: object) -> ChatRecord:
    """A chat of 10 prompt and 100 output tokens: first token after 1 s, last after 11 s."""
    fields: dict[str, object] = {
        "user": "patient",
        "account": account,
        "plan": "free",
        "sent_at_s": sent_at_s,
        "end_s": 11.0,
        "outcome": "whole",
        "status": 200,
        "reason": "",
        "attempt": 0,
        "retry_after_s": None,
        "place_first": None,
        "places": 0,
        "eta_first_s": None,
        "ttft_s": 1.0,
        "itl_s": 0.1,
        "gap_s_max": 0.1,
        "tokens": 100,
        "prompt_tokens": 10,
        "last_token_s": 11.0,
    }
    return ChatRecord(**(fields | changes))  # type: ignore[arg-type]


def test_jain_is_one_for_equals_and_one_nth_for_a_monopoly() -> None:
    assert jain([5, 5, 5, 5]) == pytest.approx(1.0)
    assert jain([8, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([1, 2]) == pytest.approx(9 / 10)
    assert jain([0, 0]) == 1.0
    with pytest.raises(ValueError, match="no values"):
        jain([])


def test_shares_are_compared_with_the_weights() -> None:
    found = share_errors({"a": 10, "b": 30}, {"a": 1, "b": 4})
    assert found["a"] == pytest.approx((0.25, 0.2, 0.25))
    assert found["b"] == pytest.approx((0.75, 0.8, -0.0625))
    with pytest.raises(ValueError, match="nothing was served"):
        share_errors({"a": 0}, {"a": 1})


def test_tokens_count_evenly_between_the_first_and_the_last() -> None:
    one = chat("a", 0.0)
    assert tokens_between(one, 0.0, 20.0) == pytest.approx(100)
    assert tokens_between(one, 1.0, 6.0) == pytest.approx(50)
    assert tokens_between(one, 0.0, 1.0) == 0
    assert tokens_between(one, 11.0, 20.0) == 0
    assert tokens_between(chat("a", 0.0, tokens=0, ttft_s=None), 0.0, 20.0) == 0


def test_a_prompt_counts_when_the_first_token_comes() -> None:
    one = chat("a", 0.0)
    assert service_between(one, 0.0, 0.99) == 0
    assert service_between(one, 0.0, 1.5) == pytest.approx(10 + 5)
    assert service_between(one, 1.5, 20.0) == pytest.approx(95)


def test_an_account_that_got_nothing_is_told_with_zero() -> None:
    refused = chat("b", 0.0, outcome="refused", ttft_s=None, tokens=0, last_token_s=None)
    assert service_by_account([chat("a", 0.0), refused], 0.0, 20.0) == {"a": 110.0, "b": 0.0}


def test_the_gap_is_the_widest_over_any_stretch_of_time() -> None:
    # a is served in the first ten seconds, b in the next ten: in between a leads by 110.
    records = [chat("a", 0.0), chat("b", 11.0)]
    assert largest_gap(records, {"a": 1, "b": 1}, 0.0, 22.0) == pytest.approx(110)
    # With twice the weight, a's 110 count as 55, so that b ends up ahead by 55.
    assert largest_gap(records, {"a": 2, "b": 1}, 0.0, 22.0) == pytest.approx(110)
    assert largest_gap(records, {"a": 2, "b": 1}, 0.0, 11.0) == pytest.approx(55)


def test_accounts_served_alike_have_no_gap() -> None:
    records = [chat("a", 0.0), chat("b", 0.0)]
    assert largest_gap(records, {"a": 1, "b": 1}, 0.0, 12.0) == pytest.approx(0)


def test_the_bound_takes_the_larger_of_prompt_and_batch() -> None:
    assert vtc_bound(100, 6400) == 12_800
    assert vtc_bound(9000, 6400) == 18_000
