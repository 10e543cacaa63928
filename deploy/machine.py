"""What this machine has: memory, disk, processors, an accelerator. Standard library only."""

import os
import platform
import shutil
import sysconfig
from pathlib import Path
from typing import Final

from deploy.errors import MachineTooSmall

GIB: Final = 2**30
_CGROUP = Path("/sys/fs/cgroup")


def memory_available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """What processes may still take: the kernel's estimate, or the container's limit if lower."""
    available = sys_available = _meminfo_bytes(meminfo, "MemAvailable")
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return sys_available
    if limit != "max":
        available = min(available, int(limit) - used + _cgroup_cache_bytes(cgroup))
    return available


def check_memory(needed_bytes: int, what_for: str) -> None:
    """Raises MachineTooSmall when less than `needed_bytes` are free."""
    available = memory_available_bytes()
    if available < needed_bytes:
        raise MachineTooSmall(
            f"{what_for} needs about {needed_bytes / GIB:.1f} GiB of memory, "
            f"{available / GIB:.1f} GiB are free.",
            "End other programs, or take a smaller FLOODGATE_KV_CACHE_GIB, fewer "
            "FLOODGATE_REPLICAS or a smaller FLOODGATE_MODEL.",
        )


def check_disk(folder: Path, needed_bytes: int, what_for: str) -> None:
    """Raises MachineTooSmall when the disk of `folder`, which may not exist yet, is too full."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise MachineTooSmall(
            f"{what_for} needs about {needed_bytes / GIB:.1f} GiB of disk, {folder} has "
            f"{free / GIB:.1f} GiB free.",
            "Free some, or set FLOODGATE_VENV (environment) or FLOODGATE_HOME (model, ledger) "
            "to a larger disk.",
        )


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether the NVIDIA driver shows a GPU."""
    return any(device.name[6:].isdigit() for device in devices.glob("nvidia[0-9]*"))


def has_python_headers() -> bool:
    """Whether C++ can be compiled against this Python."""
    return Path(sysconfig.get_paths()["include"], "Python.h").exists()


def can_compile() -> bool:
    """Whether torch.compile can build code for the processor."""
    return shutil.which("g++") is not None and has_python_headers()


def check_platform() -> None:
    """Raises MachineTooSmall on what no wheel exists for."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise MachineTooSmall(
            f"Floodgate runs on Linux on x86-64 or ARM64, this is {platform.system()} "
            f"on {platform.machine()}.",
            "Use such a machine, or a container or virtual machine of that kind.",
        )


def is_root() -> bool:
    return os.geteuid() == 0


def _meminfo_bytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{path} has no {name}")


def _cgroup_cache_bytes(cgroup: Path) -> int:
    """Cached file pages count as used, but are given up when they are needed."""
    for line in (cgroup / "memory.stat").read_text().splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0
