"""vLLM's own server with the flags and threads that a Floodgate replica has: what to compare with.

serving/ decides on a replica's flags; the end-to-end figures mean something only while these are
the same, so the bench compares what both engines say about themselves at start.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.benches.engine_settings import read_engine_settings, require_alike
from loadtests.clients.http_probe import wait_until_ok
from loadtests.errors import MeasurementError
from loadtests.process import Process, free_port
from loadtests.stack.target import Target

# Compiling a model of 16 billion parameters for a GPU takes minutes the first time.
READY_S_MAX = 600.0
SLOTS = 32
KV_CACHE_BYTES = 2 * 2**30
MEMORY_SHARE = 0.05
GPU_MEMORY_SHARE = 0.9
# serving.engine.engine_config.CPU_STEP_TOKENS and CPU_STEP_TOKENS_OF_A_PROMPT
CPU_STEP_FLAGS = ("--max-num-batched-tokens", "256", "--long-prefill-token-threshold", "128")
# Said by other flags already, from what the replica tells of itself.
_FLAGS_OF_OURS = ("max_num_seqs", "max_model_len", "gpu_memory_utilization")


def cpu_flags(*, is_eager: bool) -> list[str]:
    """What serving/ chooses on a processor."""
    flags = ["--max-num-seqs", str(SLOTS), "--kv-cache-memory-bytes", str(KV_CACHE_BYTES)]
    flags += ["--gpu-memory-utilization", str(MEMORY_SHARE)]
    return flags + (["--enforce-eager"] if is_eager else [])


def gpu_flags(slots: int, environ: Mapping[str, str], *, is_eager: bool) -> list[str]:
    """What it chooses on a GPU, with the share of memory and engine arguments that are set.

    Raises:
        MeasurementError: an engine argument is not one word on a command line.
    """
    share = environ.get("FLOODGATE_GPU_MEMORY_UTILIZATION") or str(GPU_MEMORY_SHARE)
    flags = ["--max-num-seqs", str(slots), "--gpu-memory-utilization", share]
    if kv_cache_gib := environ.get("FLOODGATE_KV_CACHE_GIB"):
        flags += ["--kv-cache-memory-bytes", str(int(float(kv_cache_gib) * 2**30))]
    flags += ["--enforce-eager"] if is_eager else []
    own: dict[str, Any] = json.loads(environ.get("FLOODGATE_ENGINE_ARGS") or "{}")
    for name, value in own.items():
        if isinstance(value, bool | dict | list) or value is None:
            raise MeasurementError(f"bare vLLM cannot be given FLOODGATE_ENGINE_ARGS' {name}")
        if name not in _FLAGS_OF_OURS:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


def start_bare_vllm(
    like: dict[str, str], flags: Sequence[str], model_name: str, home: Path, folder: Path
) -> Target:
    """The server on a loopback port, ready to answer; `like` is what the replica's engine told.

    Raises:
        ProcessFailedError: it did not start.
        MeasurementError: it runs with other settings than the replica.
    """
    target = start_vllm(
        like["model"].strip("'"),
        model_name,
        home,
        folder,
        context_tokens_max=int(like["max_seq_len"]),
        flags=flags,
    )
    try:
        log = target.process.log_path.read_text(errors="replace")
        require_alike(like, read_engine_settings(log))
    except BaseException:
        target.process.stop()
        raise
    return target


def start_vllm(
    model: str,
    model_name: str,
    home: Path,
    folder: Path,
    *,
    context_tokens_max: int,
    flags: Sequence[str],
) -> Target:
    """vLLM's server on a loopback port, ready to answer; caches are kept under `home`.

    Raises:
        ProcessFailedError: it did not start.
    """
    port = free_port()
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    argv += ["--served-model-name", model_name, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--max-model-len", str(context_tokens_max), *flags]
    argv += ["--enable-prefix-caching", "--enable-chunked-prefill"]
    argv += ["--disable-uvicorn-access-log"]
    process = Process(
        "bare vLLM",
        argv,
        log_path=folder / "bare-vllm.log",
        env={
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_LOOPBACK_IP": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo",
            "VLLM_CACHE_ROOT": str(home / "cache" / "vllm"),
            "TORCHINDUCTOR_CACHE_DIR": str(home / "cache" / "inductor"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_COLOR": "0",
        },
    )
    target = Target("bare vLLM", f"http://127.0.0.1:{port}", process)
    try:
        wait_until_ok(f"{target.url}/health", process, READY_S_MAX)
    except BaseException:
        process.stop()
        raise
    return target
