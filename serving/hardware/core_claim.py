"""Which block of a machine's cores a replica computes on: the first that no other one holds.

Ray's rank cannot tell: Ray deals ranks anew when replicas come and go, while threads stay where
they were bound. A block is a file that its replica keeps locked; a lock ends with its process.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

# The locks of this process: closed files would give them up.
_held: list[object] = []


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def claim_block(folder: Path, blocks: int) -> int:
    """The number of the block, from 0; `blocks` where all are held, as while one still drains."""
    for block in range(blocks):
        lock = (folder / f"cores-{block}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        return block
    return blocks
