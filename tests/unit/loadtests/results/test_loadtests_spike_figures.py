import pytest

from loadtests.crowd.chat_record import ChatRecord
from loadtests.errors import MeasurementError
from loadtests.results.spike_figures import (
    Window,
    is_backlogged,
    is_undeclared,
    memory_growth_mib,
    outcomes,
    places_told_share,
    recovery_s,
    refusal_p99_s,
    retry_after_share,
    spike_figures,
    useful_tokens_per_s,
)

MIB = 2**20


def record(**changes: object) -> ChatRecord:
    fields: dict[str, object] = {
        "user": "crowd",
        "account": "a",
        "plan": "free",
        "sent_at_s": 0.0,
        "end_s": 2.0,
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
        "tokens": 10,
        "prompt_tokens": 5,
        "last_token_s": 2.0,
    }
    return ChatRecord(**(fields | changes))  # type: ignore[arg-type]


def refusal(**changes: object) -> ChatRecord:
    fields: dict[str, object] = {
        "outcome": "refused",
        "status": 503,
        "reason": "queue_full",
        "retry_after_s": 5.0,
        "ttft_s": None,
        "last_token_s": None,
        "tokens": 0,
        "prompt_tokens": 0,
        "end_s": 0.1,
    }
    return record(**(fields | changes))


def test_only_answers_that_ended_whole_are_useful() -> None:
    broken = record(outcome="failed", reason="cut")
    assert useful_tokens_per_s([record(), broken], 0.0, 10.0) == pytest.approx(1.0)


def test_an_account_is_backlogged_while_one_of_its_chats_waits() -> None:
    waits = [record(sent_at_s=at, ttft_s=3.0) for at in (0.0, 2.5, 5.0)]
    assert is_backlogged(waits, "a", 1.0, 8.0)
    assert not is_backlogged(waits, "a", 1.0, 12.0)
    assert not is_backlogged([waits[0], waits[2]], "a", 0.0, 8.0)
    assert not is_backlogged(waits, "b", 0.0, 1.5)


def test_a_refusal_at_the_door_was_not_in_line() -> None:
    assert not is_backlogged([refusal(end_s=9.0)], "a", 0.0, 8.0)
    assert is_backlogged([refusal(end_s=9.0, places=3, status=200)], "a", 0.0, 8.0)


@pytest.mark.parametrize(
    ("changes", "is_bad"),
    [
        ({"outcome": "failed", "status": 500, "reason": "internal_error", "tokens": 0}, True),
        ({"outcome": "failed", "status": 0, "reason": "OSError: reset", "tokens": 0}, True),
        ({"outcome": "failed", "tokens": 3, "reason": "cut"}, False),
        ({}, False),
    ],
)
def test_undeclared_errors_are_told_from_broken_streams(
    changes: dict[str, object], is_bad: bool
) -> None:
    assert is_undeclared(record(**changes)) is is_bad


def test_memory_is_compared_late_against_early_in_the_spike() -> None:
    window = Window(100.0, 200.0)
    samples = [(90.0, 50 * MIB), (130.0, 60 * MIB), (150.0, 99 * MIB), (195.0, 63 * MIB)]
    assert memory_growth_mib(samples, window) == pytest.approx(3.0)
    assert memory_growth_mib(samples[:2], window) is None


def test_refusals_are_measured_by_time_and_retry_after() -> None:
    late = refusal(status=200, end_s=60.0, retry_after_s=None)
    silent = refusal(retry_after_s=None, end_s=0.3)
    too_long = refusal(retry_after_s=600.0)
    assert refusal_p99_s([refusal(), silent, late]) == pytest.approx(0.3)
    assert retry_after_share([refusal(), silent, too_long, late]) == pytest.approx(1 / 3)
    assert retry_after_share([record()]) is None


def test_long_waits_must_have_been_told_a_place() -> None:
    told, untold = record(ttft_s=9.0, places=3), record(ttft_s=9.0)
    assert places_told_share([told, untold, record()]) == pytest.approx(0.5)
    assert places_told_share([record()]) is None


def test_recovery_ends_with_the_last_wait_or_refusal() -> None:
    records = [
        record(sent_at_s=95.0, ttft_s=12.0),
        record(sent_at_s=140.0),
        refusal(sent_at_s=103.0, end_s=1.0),
    ]
    assert recovery_s(records, ends_at_s=100.0) == pytest.approx(7.0)
    assert recovery_s([record(sent_at_s=120.0)], ends_at_s=100.0) == 0.0


def test_outcomes_are_counted_by_status_and_reason() -> None:
    assert outcomes([record(), refusal(), refusal()]) == {"503 queue_full": 2, "whole": 1}


def test_a_whole_run_is_put_together() -> None:
    def backlog(account: str) -> list[ChatRecord]:
        # One token a 0.1 s without pause, and always the next one waiting.
        return [
            record(
                account=account,
                sent_at_s=float(at),
                ttft_s=10.0,
                last_token_s=20.0,
                end_s=20.0,
                tokens=100,
                places=2,
            )
            for at in range(-40, 110, 10)
        ]

    calm = [record(sent_at_s=float(at), tokens=20, ttft_s=0.0, last_token_s=1.0) for at in range(9)]
    records = [*backlog("a"), *backlog("b"), *(refusal(sent_at_s=float(at)) for at in range(100))]
    memory = [(30.0, 50 * MIB), (95.0, 50 * MIB)]
    found = spike_figures(calm, (0.0, 9.0), records, Window(0.0, 100.0), memory, slots=2)
    assert found.useful_tokens_share == pytest.approx(1.0)
    assert (found.undeclared_errors, found.broken_streams) == (0, 0)
    assert found.jain == pytest.approx(1.0)
    assert found.backlogged_accounts == 2
    assert found.service_gap_bound == 2 * 2 * 105
    assert found.memory_growth_mib == 0.0
    assert found.outcomes["503 queue_full"] == 75


def test_a_run_without_a_backlog_is_no_overload() -> None:
    calm = [record(sent_at_s=0.0)]
    with pytest.raises(MeasurementError, match="no overload"):
        spike_figures(calm, (0.0, 3.0), calm, Window(0.0, 100.0), [], slots=2)
