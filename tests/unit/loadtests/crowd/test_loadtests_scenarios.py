import pytest

from loadtests.crowd.scenarios import KINDS, SCENARIOS, Scale, find_scenario, stage_at
from loadtests.errors import BenchError

SCALE = Scale(slots=64, overload=20, duration_s=180, calm_s=15, greedy_connections=100)


def test_a_spike_is_calm_then_a_crowd_then_calm() -> None:
    scenario = find_scenario("spike", SCALE)
    assert [stage.until_s for stage in scenario] == [15, 195, 210]
    assert scenario[0].users == scenario[2].users == {"patient": 32}
    assert scenario[1].users == {"patient": 64, "greedy": 100, "crowd": 1}


@pytest.mark.parametrize(
    ("run_s", "user_count"), [(0.0, 32), (14.9, 32), (15.0, 165), (194.9, 165), (200.0, 32)]
)
def test_a_stage_holds_until_its_end(run_s: float, user_count: int) -> None:
    stage = stage_at(find_scenario("spike", SCALE), run_s)
    assert stage is not None
    assert stage.user_count == user_count


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_has_callers_and_an_end(name: str) -> None:
    scenario = find_scenario(name, SCALE)
    assert all(stage.users and set(stage.users) <= set(KINDS) for stage in scenario)
    assert stage_at(scenario, scenario[-1].until_s) is None


def test_a_closed_run_has_exactly_as_many_callers_as_slots() -> None:
    (stage,) = find_scenario("closed", SCALE)
    assert stage.users == {"patient": 64}


def test_half_of_the_callers_are_impatient() -> None:
    (stage,) = find_scenario("impatient", SCALE)
    assert stage.users["impatient"] == stage.users["patient"] == 128


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(BenchError, match="spike, greedy, impatient"):
        find_scenario("flood", SCALE)
