import pytest

from loadtests.errors import MeasurementError
from loadtests.stack.simulator_process import LAG_S_MAX, require_in_time


def test_a_simulator_that_lagged_is_not_believed() -> None:
    require_in_time(LAG_S_MAX)
    with pytest.raises(MeasurementError, match=r"lagged by up to 1\.25 s"):
        require_in_time(1.25)
