"""Which processor cores the compute threads of a CPU replica run on. Pure.

vLLM's own `auto` binding gives every replica on a machine the same cores, so it is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from serving.errors import SettingsConflict

NOBIND = "nobind"


def threads_per_replica(*, cores: int, replicas: int, threads: int | None) -> int:
    """Compute threads of one replica: as set, else an equal share of the cores, at least one."""
    return threads or max(1, cores // replicas)


def thread_binding(
    *,
    cores: Sequence[int],
    replicas: int,
    block: int,
    threads: int,
    workers: int,
    binding: Literal["auto", "nobind", "disjoint"],
) -> str:
    """The value of VLLM_CPU_OMP_THREADS_BIND for the replica with this block of cores.

    `threads` cores go to the replica, split over its `workers` (tensor parallel ranks), as
    "0,1|2,3". Replicas of different blocks below `replicas` never share a core.
    Raises SettingsConflict when "disjoint" is asked for and there are too few cores.
    """
    fits = threads * replicas <= len(cores) and threads % workers == 0
    if binding == NOBIND or (binding == "auto" and (replicas == 1 or not fits)):
        return NOBIND
    if not fits:
        raise SettingsConflict(
            f"{replicas} replicas of {threads} threads and {workers} workers cannot each have "
            f"cores of their own: the machine has {len(cores)}. Lower FLOODGATE_REPLICAS or "
            "FLOODGATE_CPU_THREADS, or set FLOODGATE_CPU_BINDING=nobind."
        )
    # A replica that replaces a dead one may briefly be given a block beyond the set number.
    first = (block % replicas) * threads
    own = cores[first : first + threads]
    share = threads // workers
    return "|".join(
        ",".join(str(core) for core in own[start : start + share])
        for start in range(0, threads, share)
    )
