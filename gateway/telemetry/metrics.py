"""Prometheus metrics, right across worker processes (prometheus_client's multiprocess mode).

No label holds anything a caller chooses freely: models and plans are ours, accounts never appear.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import psutil
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.telemetry import buffered_values
from gateway.telemetry.buffered_values import Histogram

buffered_values.buffer_values()

# From a cached answer to the longest generation of a minute or more.
_DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Counter("floodgate_requests_total", "Requests answered.", ("endpoint", "status", "code"))
REQUESTS_ACTIVE = Gauge(
    "floodgate_requests_active", "Requests under way.", multiprocess_mode="livesum"
)
DURATION = Histogram(
    "floodgate_request_duration_seconds",
    "From the request's headers to the answer's last byte.",
    ("endpoint",),
    buckets=_DURATION_BUCKETS,
)
TTFT = Histogram(
    "floodgate_ttft_seconds",
    "From a request's headers to the first event of its stream, the wait in line included.",
    ("endpoint", "model", "plan"),
    buckets=_DURATION_BUCKETS,
)
# From a small model on a GPU to a large one on a busy machine.
ITL = Histogram(
    "floodgate_itl_seconds",
    "From one piece of a stream to the next, as the engine sent them.",
    ("model", "plan"),
    buckets=(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10),
)
REDIS = Histogram(
    "floodgate_redis_seconds",
    "From sending a batch of calls to having all of its answers; what failed is not in it.",
    ("redis",),
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
DISCONNECTS = Counter(
    "floodgate_client_disconnects_total",
    "Callers who hung up, by what they hung up in; model and plan once they are known.",
    ("state", "model", "plan"),
)
ENGINE_FAULTS = Counter(
    "floodgate_engine_faults_total", "Replicas that gave no answer, or broke one off.", ("kind",)
)
FLOW_FALLBACKS = Counter(
    "floodgate_flow_fallbacks_total",
    "Decisions taken from the worker's local share because the flow Redis did not answer.",
    ("kind",),
)
LEDGER_FALLBACKS = Counter(
    "floodgate_ledger_fallbacks_total",
    "Decisions taken without the ledger because it did not answer.",
    ("kind",),
)
TOKENS_RESERVED = Counter(
    "floodgate_tokens_reserved_total", "Tokens reserved before dispatch.", ("model", "plan")
)
TOKENS_RETURNED = Counter(
    "floodgate_tokens_returned_total",
    "Reserved tokens of requests that no engine has worked on, taken back whole.",
    ("model", "plan"),
)
TOKENS_SETTLED = Counter(
    "floodgate_tokens_settled_total",
    "Tokens that settled requests used, by whether the engine said so or we counted.",
    ("model", "plan", "kind", "exact"),
)
SETTLEMENTS_WAITING = Gauge(
    "floodgate_settlements_waiting",
    "Settlements not yet written to the flow Redis.",
    multiprocess_mode="livesum",
)
SETTLEMENTS_DROPPED = Counter(
    "floodgate_settlements_dropped_total",
    "Settlements given up because the flow Redis was gone for too long: charged in full.",
)
USAGE_DROPPED = Counter(
    "floodgate_usage_rows_dropped_total",
    "Sums of the usage history given up because the ledger was gone for too long.",
)
_Metric = TypeVar("_Metric", bound=MetricWrapperBase)
_children: dict[tuple[Any, ...], Any] = {}


def labelled(metric: _Metric, *labels: str) -> _Metric:
    """The metric's child with these labels, which must be few: each is kept for good.

    prometheus_client finds it under a lock and in 3 µs, and a request needs eight.
    """
    key = (metric, *labels)
    child: _Metric | None = _children.get(key)
    if child is None:
        child = _children[key] = metric.labels(*labels)
    return child


def render() -> bytes:
    """All workers' metrics in Prometheus's text format; other workers' are a second old."""
    buffered_values.write()
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:  # one worker by itself, as in tests
        return generate_latest(REGISTRY)
    _forget_dead_workers(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """Gauges of workers that are gone must not count; their counters do."""
    pids = {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}
    for pid in pids:
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
