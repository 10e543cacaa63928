"""Whether a gateway worker's memory stays flat while requests go through it."""

from loadtests.benches.gateway_runs import Bench, saturate
from loadtests.stack.target import Target

BURST_S = 2.0
MIB = 2**20


def watch_memory(
    bench: Bench, target: Target, *, checkpoints: tuple[int, ...], connections: int
) -> list[tuple[int, float]]:
    """Requests through a fresh target, and its resident memory at each checkpoint.

    Three of four bursts are JSON, one streams. Returns (requests so far, MiB of the largest
    process), first at zero requests.
    """
    samples = [(0, target.process.usage().rss_bytes_largest / MIB)]
    requests, bursts = 0, 0
    for checkpoint in checkpoints:
        while requests < checkpoint:
            workload = "stream" if bursts % 4 == 3 else "chat"
            result = saturate(bench, target, workload, connections=connections, duration_s=BURST_S)
            requests += result.requests
            bursts += 1
        samples.append((requests, target.process.usage().rss_bytes_largest / MIB))
    bench.recorder.fact("memory_mib", samples)
    return samples
