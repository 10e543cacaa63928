"""Reading vLLM's counts from a Prometheus registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.engine import engine_metrics
from serving.engine.engine_metrics import read_engine_load
from serving.flow.record import EngineLoad


def test_before_the_engine_there_is_no_load() -> None:
    assert read_engine_load(CollectorRegistry()) == EngineLoad()


def test_sums_over_engines_and_ignores_the_rest() -> None:
    registry = CollectorRegistry()
    labels = ["model_name", "engine"]
    running = Gauge("vllm:num_requests_running", "", labels, registry=registry)
    waiting = Gauge("vllm:num_requests_waiting", "", labels, registry=registry)
    Gauge("vllm:num_requests_waiting_by_reason", "", labels, registry=registry)
    kv_use = Gauge("vllm:kv_cache_usage_perc", "", labels, registry=registry)
    tokens = Counter("vllm:generation_tokens", "", labels, registry=registry)
    Histogram("vllm:time_to_first_token_seconds", "", labels, registry=registry)
    for engine in ("0", "1"):
        running.labels("m", engine).set(2)
        waiting.labels("m", engine).set(1)
        tokens.labels("m", engine).inc(10)
    kv_use.labels("m", "0").set(0.123456)
    load = read_engine_load(registry)
    assert load == EngineLoad(running=4, waiting=2, kv_use=0.1235, generation_tokens=20)


def test_vllm_still_uses_these_names(vllm_source: str) -> None:
    for name in vars(engine_metrics)["_NAMES"]:
        assert f'"{name.removesuffix("_total")}"' in vllm_source
