"""Which looks at an engine count as looks at one with a line in front of it."""

import pytest

from loadtests.benches.standing_line import Look, StandingLine, standing_line, vllm_look
from loadtests.errors import MeasurementError

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="m"} 31.0
vllm:num_requests_running{engine="1",model_name="m"} 32.0
vllm:num_requests_waiting{engine="0",model_name="m"} 5.0
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.79e+09
"""


def test_looks_count_between_two_others_that_saw_a_line() -> None:
    waiting = (0, 8, 9, 8, 0, 7, 8)
    taken = [Look(waits, running, 4 + running) for running, waits in enumerate(waiting)]
    assert standing_line(taken) == StandingLine(running=[2], preemptions=6)


def test_looks_count_once_the_engine_was_full() -> None:
    taken = [Look(8, running, 0) for running in (0, 4, 20, 32, 30, 32, 31)]
    assert standing_line(taken).running == [32, 30, 32]


@pytest.mark.parametrize("taken", [[], [Look(1, 1, 0)], [Look(0, 1, 0)] * 9])
def test_a_run_without_a_line_is_no_measurement(taken: list[Look]) -> None:
    with pytest.raises(MeasurementError, match="no line"):
        standing_line(taken)


def test_vllm_tells_its_own_line_over_all_of_its_engines() -> None:
    assert vllm_look(METRICS) == Look(waiting=5, running=63, preemptions=2)


def test_a_server_without_these_metrics_is_no_vllm() -> None:
    with pytest.raises(MeasurementError, match="num_requests_waiting"):
        vllm_look("process_start_time_seconds 1.0\n")
