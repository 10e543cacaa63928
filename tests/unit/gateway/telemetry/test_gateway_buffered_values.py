import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.telemetry.buffered_values import Histogram

BUCKETS = (0.1, 0.5, 2.0)


@given(st.lists(st.floats(0, 10) | st.sampled_from(BUCKETS)))
def test_a_histogram_counts_as_the_librarys_does(amounts: list[float]) -> None:
    pages = []
    for kind in (Histogram, prometheus_client.Histogram):
        registry = CollectorRegistry()
        histogram = kind("h", "Help.", ("a",), buckets=BUCKETS, registry=registry)
        for amount in amounts:
            histogram.labels("x").observe(amount)
        page = generate_latest(registry).decode()
        pages.append([line for line in page.splitlines() if "_created" not in line])
    assert pages[0] == pages[1]
