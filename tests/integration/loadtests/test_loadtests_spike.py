"""A short spike through the real gateway: two Redis servers, simulated engines, locust's crowd."""

from pathlib import Path

import pytest

from loadtests.results.report import Recorder
from loadtests.spike import SpikePlan, run_spike, spike_stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

REFUSED_FOR_LOAD = ("account_queue_full", "queue_full", "queue_timeout")


def test_a_crowd_of_ten_times_the_capacity_breaks_nothing(tmp_path: Path) -> None:
    """Whether anything breaks; how fast it is on an idle machine is for `make spike`."""
    plan = SpikePlan(
        spike_stack(),
        duration_s=20.0,
        overload=10.0,
        accounts=5,
        greedy_connections=30,
        calm_s=2.0,
        sustain_s=10.0,
        output_tokens=32,
    )
    figures = run_spike(plan, Recorder("spike", tmp_path))
    assert figures.backlogged_accounts > 0, "somebody was in line throughout"
    refusals = [outcome for outcome in figures.outcomes if outcome.endswith(REFUSED_FOR_LOAD)]
    assert refusals, "more came than there was room for"
    assert figures.undeclared_errors == 0
    assert figures.broken_streams == 0
    assert figures.retry_after_share == 1
    assert figures.outcomes["whole"] > 0
