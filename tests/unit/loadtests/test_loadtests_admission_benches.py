"""The arithmetic of the benches of admission: shares, histograms, hang-ups, metrics."""

import pytest

from loadtests.accounts import Account
from loadtests.benches.hang_up_bench import STATES, hang_up_table
from loadtests.benches.line_bench import bucket_percentile, line_table
from loadtests.benches.overload_bench import WEIGHTS, share_figures, shares_table
from loadtests.crowd.chat_record import ChatRecord
from loadtests.errors import MeasurementError
from loadtests.stack.whole_stack import samples_of


def served(account: str, plan: str, sent_at_s: float, tokens: int) -> ChatRecord:
    """In line for ten seconds, then all tokens in the next ten."""
    return ChatRecord(
        user="patient",
        account=account,
        plan=plan,
        sent_at_s=sent_at_s,
        end_s=20.0,
        outcome="whole",
        status=200,
        reason="",
        attempt=0,
        retry_after_s=None,
        place_first=3,
        places=2,
        eta_first_s=None,
        ttft_s=10.0,
        itl_s=0.1,
        gap_s_max=0.1,
        tokens=tokens,
        prompt_tokens=0,
        last_token_s=20.0,
    )


ACCOUNTS = [Account(f"{plan}-001", plan, "k") for plan in WEIGHTS]


def test_shares_by_weight_are_exact_where_tokens_are() -> None:
    records = [
        served(f"{plan}-001", plan, float(at), 100 * weight)
        for plan, weight in WEIGHTS.items()
        for at in range(0, 100, 10)
    ]
    found = share_figures(records, ACCOUNTS, duration_s=100.0)
    assert found["shares"]["staff"] == pytest.approx((4 / 7, 4 / 7, 0.0))
    table = shares_table(found)
    assert [row[-1] for row in table.rows] == ["met", "met", "met"]


def test_an_account_that_was_idle_spoils_the_shares() -> None:
    records = [served("free-001", "free", float(at), 100) for at in range(0, 100, 10)]
    with pytest.raises(MeasurementError, match="plus-001, staff-001"):
        share_figures(records, ACCOUNTS, duration_s=100.0)


@pytest.mark.parametrize(("percent", "bound"), [(50, 0.001), (90, 0.01), (99, float("inf"))])
def test_a_percentile_is_the_bound_of_its_bucket(percent: float, bound: float) -> None:
    cumulative = [(0.001, 50.0), (0.01, 95.0), (float("inf"), 100.0)]
    assert bucket_percentile(cumulative, percent) == bound


def test_a_histogram_without_counts_is_no_figure() -> None:
    for cumulative in ([], [(0.1, 0.0)]):
        with pytest.raises(MeasurementError, match="counted nothing"):
            bucket_percentile(cumulative, 50)


def test_the_line_is_held_against_its_goals() -> None:
    figures = {
        "waiting": 10_000,
        "bytes_each": 25_001.0,
        "grant_p50_ms": 1.0,
        "grant_p99_ms": 20.0,
        "places_told_per_s": 2_000.0,
        "grants": [(0.02, 10.0)],
    }
    assert [row[-1] for row in line_table(figures).rows] == ["missed", "", "met", ""]


def test_the_slowest_hang_up_decides() -> None:
    runs = [
        {
            "kind": "hang_up",
            "round": number,
            "state": state,
            "stream": stream,
            "ticket_s": slow_s if state == "queued" else None,
            "engine_s": None if state == "queued" else 0.01,
            "slot_s": None if state == "queued" else slow_s if state == "streaming" else 0.01,
            "tokens_s": slow_s if state == "prefill" else 0.02,
        }
        for number, slow_s in enumerate((0.02, 1.5))
        for state in STATES
        for stream in (True, False)
        if not (state == "prefill" and stream and slow_s > 1)
    ]
    verdicts = {row[0]: row[-1] for row in hang_up_table(runs).rows}
    assert verdicts["queued, stream"] == "missed"
    assert verdicts["prefill, stream"] == "met"
    assert verdicts["prefill, JSON"] == "missed", "its tokens came late"
    assert verdicts["streaming, JSON"] == "missed"


def test_samples_of_a_metric_are_told_from_those_of_longer_names() -> None:
    text = 'a_total{x="1"} 2.0\na_total{x="2"} 3\na_total_created 9\na_total 1\n# a_total 7\n'
    assert samples_of(text, "a_total") == [('{x="1"}', 2.0), ('{x="2"}', 3.0), ("", 1.0)]
