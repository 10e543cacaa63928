"""No two replicas on a machine are ever pinned to one core."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import SettingsConflict
from serving.hardware.cores import NOBIND, thread_binding, threads_per_replica


def _cores_in(binding: str) -> list[int]:
    return [int(core) for core in binding.replace("|", ",").split(",")]


@given(
    cores=st.sets(st.integers(0, 255), min_size=1, max_size=64).map(sorted),
    replicas=st.integers(1, 16),
    workers=st.integers(1, 4),
)
def test_replicas_share_no_core(cores: list[int], replicas: int, workers: int) -> None:
    threads = threads_per_replica(cores=len(cores), replicas=replicas, threads=None)
    bindings = [
        thread_binding(
            cores=cores,
            replicas=replicas,
            block=block,
            threads=threads,
            workers=workers,
            binding="auto",
        )
        for block in range(replicas)
    ]
    if NOBIND in bindings:
        assert set(bindings) == {NOBIND}
        return
    pinned = [core for binding in bindings for core in _cores_in(binding)]
    assert len(pinned) == len(set(pinned))
    assert set(pinned) <= set(cores)
    assert all(len(binding.split("|")) == workers for binding in bindings)


def test_one_replica_is_not_pinned() -> None:
    binding = thread_binding(
        cores=[0, 1], replicas=1, block=0, threads=2, workers=1, binding="auto"
    )
    assert binding == NOBIND


def test_tensor_parallel_workers_split_the_cores() -> None:
    binding = thread_binding(
        cores=range(8), replicas=2, block=1, threads=4, workers=2, binding="disjoint"
    )
    assert binding == "4,5|6,7"


@pytest.mark.parametrize(("replicas", "threads", "workers"), [(3, 1, 1), (2, 2, 1), (1, 2, 4)])
def test_disjoint_cores_that_cannot_be_had(replicas: int, threads: int, workers: int) -> None:
    with pytest.raises(SettingsConflict, match="FLOODGATE_CPU_BINDING"):
        thread_binding(
            cores=[0, 1],
            replicas=replicas,
            block=0,
            threads=threads,
            workers=workers,
            binding="disjoint",
        )


def test_more_replicas_than_cores_still_compute() -> None:
    assert threads_per_replica(cores=2, replicas=5, threads=None) == 1
