import pytest

from loadtests.benches.calibration import Observation, fit
from loadtests.calibrate import read_cache
from loadtests.errors import MeasurementError


def observation(n: int, prompt: float, output: int, costs: tuple[float, ...]) -> Observation:
    """What an engine with exactly these costs would show."""
    h, a, b, c = costs
    life_s = h + a * output + b * n * output + c * n * prompt
    return Observation(
        concurrency=n,
        prompt_tokens=prompt,
        output_tokens=output,
        ttft_s=h + a + b + c * prompt,
        life_s=life_s,
        itl_s=a + b * n,
        tokens_per_s=n * output / life_s,
    )


RUNS = ((1, 40, 48), (8, 40, 48), (32, 40, 48), (1, 800, 8), (8, 200, 32))


def test_the_costs_that_made_the_figures_are_found_again() -> None:
    costs = (0.004, 0.02, 0.0011, 0.0006)
    found = fit([observation(*run, costs) for run in RUNS])
    assert (
        found.request_s,
        found.step_base_s,
        found.step_sequence_s,
        found.step_prefill_token_s,
    ) == pytest.approx(costs)
    assert found.error_max == pytest.approx(0, abs=1e-9)


def test_no_cost_comes_out_below_zero() -> None:
    found = fit([observation(*run, (-0.004, 0.02, 0.0011, 0.0006)) for run in RUNS])
    assert found.request_s == 0.0
    assert found.error_max > 0


def test_too_few_runs_are_no_fit() -> None:
    with pytest.raises(MeasurementError, match="equations"):
        fit([observation(1, 40, 48, (0.0, 0.02, 0.001, 0.0006))])


def test_the_cache_is_read_from_vllms_metrics() -> None:
    line = 'vllm:cache_config_info{block_size="128",num_cpu_blocks="None",num_gpu_blocks="728"} 1.0'
    assert read_cache(f"# HELP\n{line}\n") == (728, 128)
    with pytest.raises(MeasurementError, match="cache_config_info"):
        read_cache(line.replace("728", "None"))
