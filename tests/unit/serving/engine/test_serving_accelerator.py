"""Finding the hardware to run on."""

from pathlib import Path
from typing import Literal

import pytest

from serving.errors import SettingsConflict
from serving.hardware.accelerator import choose_accelerator, gpu_count


@pytest.mark.parametrize(
    ("wanted", "gpus", "cpu_build", "chosen"),
    [
        ("auto", 0, True, "cpu"),
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "gpu"),
        ("auto", 2, True, "cpu"),
        ("cpu", 2, False, "cpu"),
        ("gpu", 1, False, "gpu"),
    ],
)
def test_choice(
    wanted: Literal["auto", "cpu", "gpu"], gpus: int, cpu_build: bool, chosen: str
) -> None:
    assert choose_accelerator(wanted, gpus=gpus, cpu_build=cpu_build) == chosen


@pytest.mark.parametrize(("gpus", "cpu_build"), [(0, False), (1, True)])
def test_a_gpu_that_cannot_be_had(gpus: int, cpu_build: bool) -> None:
    with pytest.raises(SettingsConflict, match="FLOODGATE_ACCELERATOR=gpu"):
        choose_accelerator("gpu", gpus=gpus, cpu_build=cpu_build)


def test_counts_devices_and_not_their_controls(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpu_count(tmp_path) == 2
