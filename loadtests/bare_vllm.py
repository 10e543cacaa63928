"""vLLM's own server with the flags and threads that a Floodgate replica has: what to compare with.

serving/ decides on a replica's flags; the end-to-end figures mean something only while these are
the same, so the bench compares what both engines say about themselves at start.
"""

import os
import sys
from pathlib import Path

from loadtests.engine_settings import read_engine_settings, require_alike
from loadtests.http_probe import wait_until_ok
from loadtests.process import Process, free_port
from loadtests.target import Target

READY_S_MAX = 300.0
SLOTS = 32
KV_CACHE_BYTES = 2 * 2**30
MEMORY_SHARE = 0.05


def start_bare_vllm(like: dict[str, str], model_name: str, home: Path, folder: Path) -> Target:
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
        is_eager=like["enforce_eager"] == "True",
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
    is_eager: bool,
) -> Target:
    """vLLM's server on a loopback port, ready to answer; caches are kept under `home`.

    Raises:
        ProcessFailedError: it did not start.
    """
    port = free_port()
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    argv += ["--served-model-name", model_name, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--max-num-seqs", str(SLOTS), "--kv-cache-memory-bytes", str(KV_CACHE_BYTES)]
    argv += ["--gpu-memory-utilization", str(MEMORY_SHARE)]
    argv += ["--max-model-len", str(context_tokens_max)]
    argv += ["--enable-prefix-caching", "--enable-chunked-prefill"]
    argv += ["--disable-uvicorn-access-log"]
    argv += ["--enforce-eager"] if is_eager else []
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
