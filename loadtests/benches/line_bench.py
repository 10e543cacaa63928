"""The line itself: what 10,000 waiting requests cost one gateway worker, and how fast grants go.

Bytes each are the worker's resident memory with all of them in line, places being told, less
what it was before the first, by their number. Grant to first byte is the gateway's own histogram
over the grants of the same time.
"""

import asyncio
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from loadtests.clients import http_probe
from loadtests.clients.line_client import Waiters
from loadtests.errors import MeasurementError
from loadtests.results.report import Recorder, Table, verdict
from loadtests.stack.whole_stack import MODEL, Stack, StackPlan, plan_of, samples_of

BYTES_EACH_MAX = 25_000
GRANT_P99_MS_MAX = 20.0
GRANT_METRIC = "floodgate_grant_to_first_byte_seconds"
WARM_UP_REQUESTS = 500


@dataclass(frozen=True)
class LinePlan:
    """How many wait, for how long they are watched, and in front of what."""

    waiting: int = 10_000
    watch_s: float = 60.0
    accounts: int = 100
    output_tokens: int = 64

    def quick(self) -> "LinePlan":
        """Enough to see that it works, not for figures."""
        return replace(self, waiting=1_000, watch_s=15.0)

    def stack(self) -> StackPlan:
        """64 slots, and a line that takes all of them."""
        return StackPlan(
            plans={"free": plan_of(waiting_requests=2 * self.waiting // self.accounts)},
            settings={
                "FLOODGATE_QUEUE_LENGTH_MAX": str(2 * self.waiting),
                "FLOODGATE_QUEUE_WAIT_S_MAX": "3600",
            },
        )


def run_line_bench(plan: LinePlan, recorder: Recorder) -> list[Table]:
    """Fill the line, watch it, take the figures.

    Raises:
        BenchError: something did not start, or callers were refused.
    """
    with (
        tempfile.TemporaryDirectory(prefix="floodgate-line-") as name,
        Stack(plan.stack(), Path(name)) as stack,
    ):
        figures: dict[str, Any] = uvloop.run(_measure(stack, plan))
        stack.gateway.require_running()
        stack.simulator.require_in_time()
    recorder.add(kind="line", plan=asdict(plan), **figures)
    return [line_table(figures)]


async def _measure(stack: Stack, plan: LinePlan) -> dict[str, Any]:
    accounts = await asyncio.to_thread(stack.accounts, {"free": plan.accounts})
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story about rivers and lamps."}],
        "max_tokens": plan.output_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    waiters = Waiters(stack.url, accounts, body)
    await waiters.fill(stack.plan.slots)
    # What every worker allocates once is no cost of waiting.
    await _until(lambda: waiters.ends.get("served", 0) >= stack.plan.slots, waiters)
    before = stack.gateway.usage().rss_bytes_largest
    grants_before = grant_buckets(stack)
    await waiters.fill(plan.waiting + stack.plan.slots)
    filled_at_s = time.monotonic()
    samples = []
    while time.monotonic() < filled_at_s + plan.watch_s:
        await waiters.fill(plan.waiting + stack.plan.slots)
        await asyncio.sleep(1.0)
        samples.append((waiters.told, stack.gateway.usage().rss_bytes_largest))
    if waiters.ends.get("refused") or waiters.ends.get("lost"):
        raise MeasurementError(f"not everybody could wait: {waiters.ends}")
    grants = [
        (bound, count - grants_before.get(bound, 0))
        for bound, count in grant_buckets(stack).items()
    ]
    places_told = waiters.places_told
    waiters.hang_up()
    told, rss = samples[-1]
    return {
        "waiting": told,
        "rss_before": before,
        "rss_waiting": rss,
        "bytes_each": (rss - before) / max(told, 1),
        "samples": samples,
        "places_told_per_s": places_told / plan.watch_s,
        "grants": grants,
        "grant_p50_ms": 1e3 * bucket_percentile(grants, 50),
        "grant_p99_ms": 1e3 * bucket_percentile(grants, 99),
    }


async def _until(condition: Any, waiters: Waiters, deadline_s: float = 60.0) -> None:
    give_up_at_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > give_up_at_s:
            raise MeasurementError(f"nothing is served: {waiters.ends}")
        await asyncio.sleep(0.05)


def grant_buckets(stack: Stack) -> dict[float, float]:
    """The histogram's cumulative counts by upper bound in seconds, over all labels."""
    text = http_probe.call("GET", f"{stack.url}/metrics").body.decode()
    found: dict[float, float] = {}
    for labels, value in samples_of(text, f"{GRANT_METRIC}_bucket"):
        bound = float(labels.partition('le="')[2].partition('"')[0])
        found[bound] = found.get(bound, 0.0) + value
    return dict(sorted(found.items()))


def grants_since(stack: Stack, before: dict[float, float]) -> list[tuple[float, float]]:
    """The cumulative counts of the grants that came after an earlier look."""
    return [
        (bound, count - before.get(bound, 0.0)) for bound, count in grant_buckets(stack).items()
    ]


def bucket_percentile(cumulative: list[tuple[float, float]], percent: float) -> float:
    """The upper bound of the bucket that holds the percentile: never less than the true value.

    Raises:
        MeasurementError: nothing was counted.
    """
    total = cumulative[-1][1] if cumulative else 0.0
    if total <= 0:
        raise MeasurementError(f"{GRANT_METRIC} counted nothing")
    return next(bound for bound, count in cumulative if count >= total * percent / 100)


def line_table(figures: dict[str, Any]) -> Table:
    """Cost and speed of the line."""
    each, p99_ms = figures["bytes_each"], figures["grant_p99_ms"]
    grants = figures["grants"][-1][1]
    return Table(
        f"The line with {figures['waiting']:,} waiting requests on one worker",
        ("figure", "goal", "found", "verdict"),
        [
            (
                "memory of a waiting request (bytes)",
                f"≤ {BYTES_EACH_MAX:,}",
                f"{each:,.0f}",
                verdict(each, at_most=BYTES_EACH_MAX),
            ),
            ("grant to first byte p50 (ms)", "none", f"≤ {figures['grant_p50_ms']:g}", ""),
            (
                "grant to first byte p99 (ms)",
                f"≤ {GRANT_P99_MS_MAX:g}",
                f"≤ {p99_ms:g}",
                verdict(p99_ms, at_most=GRANT_P99_MS_MAX),
            ),
            ("places told a second", "none", f"{figures['places_told_per_s']:,.0f}", ""),
        ],
        notes=(f"{grants:,.0f} grants, by the bounds of the histogram's buckets",),
    )
