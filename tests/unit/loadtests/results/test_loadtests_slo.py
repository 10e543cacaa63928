from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.errors import BenchError
from loadtests.results.slo import SPIKE_SLO, SpikeSlo, checks, load_slo
from loadtests.results.spike_figures import SpikeFigures

FIGURES = SpikeFigures(
    useful_tokens_share=0.99,
    undeclared_errors=0,
    broken_streams=0,
    memory_growth_mib=1.0,
    jain=0.995,
    service_gap_share=0.4,
    refusal_p99_s=0.2,
    retry_after_share=1.0,
    places_told_share=1.0,
    recovery_s=10.0,
    useful_tokens_per_s=99.0,
    sustainable_tokens_per_s=100.0,
    service_gap=40.0,
    service_gap_bound=100.0,
    offered_per_s=20.0,
    offered_over_capacity=20.0,
    outcomes={"whole": 1},
    wait_p50_s=1.0,
    wait_p99_s=2.0,
    backlogged_accounts=17,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "slo.yaml"


def test_every_bound_has_a_figure_and_the_packaged_file_sets_them_all() -> None:
    slo = load_slo(SPIKE_SLO)
    found = {check.name for check in checks(slo, FIGURES)}
    assert found == set(SpikeSlo.model_fields)
    assert all(check.is_met for check in checks(slo, FIGURES))


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"useful_tokens_share": 0.97}, "useful_tokens_share_min"),
        ({"undeclared_errors": 1}, "undeclared_errors_max"),
        ({"memory_growth_mib": None}, "memory_growth_mib_max"),
        ({"jain": 0.98}, "jain_min"),
        ({"backlogged_accounts": 16}, "backlogged_accounts_min"),
        ({"recovery_s": 46.0}, "recovery_s_max"),
    ],
)
def test_a_missed_bound_is_told(changes: dict[str, float | None], missed: str) -> None:
    figures = replace(FIGURES, **changes)  # type: ignore[arg-type]
    found = [check.name for check in checks(load_slo(SPIKE_SLO), figures) if not check.is_met]
    assert found == [missed]


def test_what_is_left_out_is_not_checked(file: Path) -> None:
    file.write_text("jain_min: 0.5\n")
    assert [check.name for check in checks(load_slo(file), FIGURES)] == ["jain_min"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jain_min: 0.99\njian_max: 1\n", r":2: jian_max: is no bound; there are offered_over"),
        ("# a\njain_min: high\n", r":2: jain_min: .*number"),
        ("jain_min: 1.5\n", r":1: jain_min: .*less than or equal to 1"),
        ("undeclared_errors_max: 0.5\n", r":1: undeclared_errors_max: .*integer"),
        ("jain_min: 0.9\njain_min: 0.8\n", r":2: jain_min stands here a second time"),
        ("jain_min: [0.9\n", r":2: "),
        ("- jain_min\n", r":1: bounds must stand here"),
        ("", r":1: bounds must stand here"),
        ("jain_min:\n", r"no bound in it"),
    ],
)
def test_a_mistake_is_told_with_its_line(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(BenchError, match=told):
        load_slo(file)


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    with pytest.raises(BenchError, match=r"slo\.yaml"):
        load_slo(file)
