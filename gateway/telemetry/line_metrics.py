"""Metrics of the line. Labels are models, plans and pools; accounts never appear.

What is counted of a request has the model that it asked for, as its tokens have. What is measured
of a line has the pool: the model itself where it has replicas of its own, else one upstream server
with all of its models, whose requests wait in one line. POOL_MODEL tells which belong together.
"""

from prometheus_client import Counter, Gauge

from gateway.telemetry import buffered_values
from gateway.telemetry.buffered_values import Histogram

buffered_values.buffer_values()

# From a slot at once to the longest wait.
_WAIT_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)

POOL_MODEL = Gauge(
    "floodgate_pool_model",
    "1 where requests for the model wait in the pool's line and use its slots, 0 where no longer.",
    ("pool", "model"),
    multiprocess_mode="livemax",
)
SLOTS_HELD = Gauge("floodgate_slots_held", "Slots in use.", ("pool",), multiprocess_mode="livesum")
SLOTS_CAPACITY = Gauge(
    "floodgate_slots_capacity",
    "Slots that running replicas offer.",
    ("pool",),
    multiprocess_mode="livemax",
)
SLOTS_WITHOUT_WORK = Gauge(
    "floodgate_slots_without_work",
    "Slots in use for which the engine has had nothing to do for half a minute.",
    ("pool",),
    multiprocess_mode="livemax",
)
QUEUE_LENGTH = Gauge(
    "floodgate_queue_length",
    "Requests waiting for a slot, over all gateways.",
    ("pool",),
    multiprocess_mode="livemax",
)
WAITING = Gauge(
    "floodgate_waiting_requests",
    "Requests waiting for a slot, of all workers of this gateway.",
    ("model", "plan"),
    multiprocess_mode="livesum",
)
QUEUE_BYTES = Gauge(
    "floodgate_queue_bytes",
    "Bodies of waiting requests held in memory.",
    ("pool",),
    multiprocess_mode="livesum",
)
QUEUE_WAIT = Histogram(
    "floodgate_queue_wait_seconds",
    "From asking for a slot to having it.",
    ("model", "plan"),
    buckets=_WAIT_BUCKETS,
)
ADMITTED = Counter(
    "floodgate_admitted_total", "Requests that got a slot.", ("model", "plan", "waited")
)
REFUSED = Counter("floodgate_refused_total", "Requests that got none.", ("model", "plan", "reason"))
ESTIMATE_RATIO = Histogram(
    "floodgate_estimate_ratio",
    "Time until the slot, or until the wait lasted too long, over the estimate (p50) that the "
    "caller was first told.",
    ("model",),
    buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10),
)
ESTIMATE_KEPT = Counter(
    "floodgate_estimate_p90_total",
    "Waits that ended within the estimated p90 (kept=yes), and those that did not.",
    ("model", "kept"),
)
GRANT_TO_FIRST_BYTE = Histogram(
    "floodgate_grant_to_first_byte_seconds",
    "From learning of a grant to having handed the request to the engine's socket.",
    ("model",),
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1),
)
FAIRNESS = Gauge(
    "floodgate_fairness_jain",
    "Jain's index of weighted tokens granted to accounts that had somebody in line throughout "
    "the last ten seconds; 1 is perfectly fair.",
    ("pool",),
    multiprocess_mode="livemin",
)
