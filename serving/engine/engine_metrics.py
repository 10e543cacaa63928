"""vLLM's own counts, read from the Prometheus registry of the replica's process.

Reading the registry takes 0.1 ms and no request; the same numbers are served at the replica's
/metrics.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry

from serving.flow.record import EngineLoad

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_USE = "vllm:kv_cache_usage_perc"
PREEMPTIONS = "vllm:num_preemptions_total"
GENERATION_TOKENS = "vllm:generation_tokens_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"

_NAMES = (RUNNING, WAITING, KV_USE, PREEMPTIONS, GENERATION_TOKENS, PROMPT_TOKENS)


def read_engine_load(registry: CollectorRegistry = REGISTRY) -> EngineLoad:
    """The engine's load now; all zero before vLLM has registered its metrics."""
    values = dict.fromkeys(_NAMES, 0.0)
    for metric in registry.restricted_registry(_NAMES).collect():
        for sample in metric.samples:
            if sample.name in values:
                values[sample.name] += sample.value
    return EngineLoad(
        running=int(values[RUNNING]),
        waiting=int(values[WAITING]),
        kv_use=round(values[KV_USE], 4),
        preemptions=int(values[PREEMPTIONS]),
        generation_tokens=int(values[GENERATION_TOKENS]),
        prompt_tokens=int(values[PROMPT_TOKENS]),
    )
