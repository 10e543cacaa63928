"""What differs between replicas on processors, in the environment that vLLM's processes inherit."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from serving.environment import RUN_MARK
from serving.hardware.core_claim import claim_block
from serving.hardware.cores import thread_binding, threads_per_replica
from serving.settings import ServingSettings


def set_cpu_environment(settings: ServingSettings, cores: tuple[int, ...]) -> None:
    """To be called before vLLM is imported: it reads its environment then."""
    replicas = settings.cores_shared_by
    threads = threads_per_replica(cores=len(cores), replicas=replicas, threads=settings.cpu_threads)
    run_folder = Path(os.environ.get(RUN_MARK) or tempfile.gettempdir())
    workers = settings.tensor_parallel
    # Ray would leave one thread to an actor of one CPU: 40% fewer tokens/s on two cores.
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // workers))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = thread_binding(
        cores=cores,
        replicas=replicas,
        block=claim_block(run_folder, replicas),
        threads=threads,
        workers=workers,
        binding=settings.cpu_binding,
    )
    # vLLM 0.29 cannot load on CPU what it compiled ahead of time ('function' object has no
    # attribute 'finalize_loading') and compiles anew at every start: 55 s on two cores. Without
    # it, inductor's own cache works.
    os.environ["VLLM_USE_AOT_COMPILE"] = "0"
