"""Metrics of the waitlist: counts alone. Each worker reads them in the background, as all do."""

from prometheus_client import Gauge

from gateway.telemetry import buffered_values

buffered_values.buffer_values()

WAITLIST_PEOPLE = Gauge(
    "floodgate_waitlist_people",
    "People who are confirmed and in line (waiting), not yet confirmed (pending), or invited.",
    ("state",),
    multiprocess_mode="livemax",
)
WAITLIST_MAILS = Gauge(
    "floodgate_waitlist_mails",
    "Mails to be sent (due), and those held for the operator.",
    ("state",),
    multiprocess_mode="livemax",
)
RELEASE_LEADER = Gauge(
    "floodgate_release_leader",
    "Workers that lead automatic release: one, where it is on.",
    multiprocess_mode="livesum",
)
