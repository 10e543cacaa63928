"""What the figures were measured on, and how busy it was: read from /proc."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """The machine in the words that a reader needs to compare figures."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str

    def in_words(self) -> str:
        """One line for a table's caption."""
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, "
            f"Linux {self.kernel}, Python {self.python}"
        )


def read_machine() -> Machine:
    """The machine this process runs on."""
    return Machine(
        processor=processor_name(Path("/proc/cpuinfo").read_text()),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=memory_total_gib(Path("/proc/meminfo").read_text()),
        kernel=platform.release(),
        python=platform.python_version(),
    )


def processor_name(cpuinfo: str) -> str:
    """The first model name in /proc/cpuinfo, or the architecture where there is none (ARM)."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def memory_total_gib(meminfo: str) -> float:
    """MemTotal of /proc/meminfo in GiB; 0.0 where the line is missing."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) / 2**20
    return 0.0


def load_average() -> tuple[float, float, float]:
    """Runnable tasks, averaged over 1, 5 and 15 minutes."""
    return os.getloadavg()
