"""The arithmetic of the benches of replicas: a request's cost, and what a second replica adds."""

from dataclasses import asdict
from typing import Any

import pytest

from loadtests.benches.replica_costs import RestCost, Use, request_cost, rest_cost
from loadtests.benches.replicas_bench import ReplicasPlan
from loadtests.benches.replicas_tables import cost_table, numbers, ratio_table, replicas_tables
from loadtests.benches.scaling_bench import scaling_table
from loadtests.errors import MeasurementError

AT_START = Use(100.0, 1.0, 0.5, 50, 40, 1_000, 0)
REST = RestCost(
    gateway_ms_per_s=10.0,
    flow_ms_per_s=2.0,
    round_trips_per_s=3.0,
    scripts_per_s=4.0,
    scripts_us_per_s=100.0,
)


def a_request(number: int, kind: str, replicas: int, gateway_us: float) -> dict[str, Any]:
    return {
        "kind": kind,
        "round": number,
        "replicas": replicas,
        "requests_per_s": 300.0,
        "gateway_us": gateway_us,
        "flow_us": 100.0,
        "scripts_us": 80.0,
        "round_trips": 2.5,
        "grant_p50_ms": 1.0,
        "grant_p99_ms": 5.0,
    }


def runs_of(gateway_us: dict[int, list[float]]) -> list[dict[str, Any]]:
    """Runs of both loads, by the number of replicas and in the order of the rounds."""
    found: list[dict[str, Any]] = []
    for replicas, costs in gateway_us.items():
        for number, cost in enumerate(costs):
            rest = {"gateway_ms_per_s": 5.0, "flow_ms_per_s": 2.0}
            found.append({"kind": "rest", "round": number, "replicas": replicas, **rest})
            found += [a_request(number, kind, replicas, cost) for kind in ("free", "line")]
    return found


def test_what_time_costs_is_told_by_the_second() -> None:
    use = Use(104.0, 1.04, 0.508, 62, 56, 1_400, 0).since(AT_START)
    assert asdict(rest_cost(use)) == pytest.approx(asdict(REST))


def test_what_time_costs_is_no_part_of_a_request() -> None:
    use = Use(110.0, 2.1, 0.72, 330, 280, 22_000, 200).since(AT_START)
    cost = request_cost(use, REST)
    assert cost.requests_per_s == 20.0
    assert cost.gateway_us == pytest.approx((1.1 - 0.1) / 200 * 1e6)
    assert cost.flow_us == pytest.approx((0.22 - 0.02) / 200 * 1e6)
    assert cost.round_trips == pytest.approx((280 - 30) / 200)
    assert cost.scripts == pytest.approx((240 - 40) / 200)
    assert cost.scripts_us == pytest.approx((21_000 - 1_000) / 200)


def test_a_rest_in_which_somebody_asked_is_no_measurement() -> None:
    with pytest.raises(MeasurementError, match="1 requests were answered at rest"):
        rest_cost(Use(104.0, 1.0, 0.5, 50, 40, 1_000, 1).since(AT_START))


def test_a_load_that_nobody_answered_is_no_measurement() -> None:
    with pytest.raises(MeasurementError, match="no request was answered"):
        request_cost(Use(104.0, 1.0, 0.5, 50, 40, 1_000, 0).since(AT_START), REST)


def test_costs_are_compared_within_a_round() -> None:
    # The machine was twice as slow in the second round: the ratios are 1.1 in each.
    found = ratio_table(runs_of({1: [100.0, 200.0, 100.0], 64: [110.0, 220.0, 110.0]}))
    assert found.rows[0] == (
        "gateway worker, slots free everywhere",
        "≤ 1.15",
        "1.10 (1.10 to 1.10)",
        "met",
    )


def test_a_cost_that_grows_with_the_replicas_is_missed() -> None:
    found = ratio_table(runs_of({1: [100.0], 4: [105.0], 64: [116.0]}))
    assert [row[-1] for row in found.rows] == ["missed", "met", "missed", "met"]


def test_every_number_of_replicas_has_its_row_in_each_table() -> None:
    runs = runs_of({64: [110.0], 1: [100.0], 16: [101.0]})
    assert numbers(runs) == [1, 16, 64]
    assert [row[0] for row in cost_table(runs, "line").rows] == ["1", "16", "64"]
    assert [len(table.rows) for table in replicas_tables(runs)] == [3, 3, 4, 3]


def test_all_slots_together_are_the_same_for_every_number_of_replicas() -> None:
    plan = ReplicasPlan()
    assert {plan.stack(replicas).slots for replicas in plan.replicas} == {plan.slots}


def test_two_replicas_are_held_against_one_before_and_after_them() -> None:
    runs = [
        {
            "replicas": replicas,
            "tokens_per_s": tokens_per_s,
            "cores_busy": 1.5,
            "cores_idle": 0.5,
        }
        for replicas, tokens_per_s in ((1, 100.0), (2, 180.0), (1, 140.0))
    ]
    rows = scaling_table(runs, concurrency=128).rows
    assert [row[:3] for row in rows] == [
        ("1", "120 (100 to 140)", "1.00"),
        ("2", "180", "1.50"),
    ]
