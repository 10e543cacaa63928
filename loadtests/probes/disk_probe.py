"""What the disk under a ledger gives: how long it takes to keep what one small write says."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loadtests.percentiles import percentile

# About what a join adds to the append-only file.
WRITE_BYTES = 300


@dataclass(frozen=True)
class DiskFigures:
    """Write and fdatasync, one after the other."""

    writes: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def probe_disk(folder: Path, writes: int) -> DiskFigures:
    """Append to a file of `folder` and wait for the disk each time. Raises OSError."""
    content = b"x" * WRITE_BYTES
    taken_ms = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(writes):
            began_s = time.perf_counter()
            os.write(file.fileno(), content)
            os.fdatasync(file.fileno())
            taken_ms.append(1e3 * (time.perf_counter() - began_s))
    taken_ms.sort()
    return DiskFigures(writes, percentile(taken_ms, 50), percentile(taken_ms, 99), taken_ms[-1])


def file_system_of(folder: Path, mounts: str) -> str:
    """The kind of file system that a folder is on, from what /proc/mounts says."""
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind
