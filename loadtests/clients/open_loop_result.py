"""What a run at a constant rate found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from loadtests.percentiles import percentile


@dataclass(frozen=True)
class OpenLoopResult:
    """Latencies of one run, counted from when each request was due."""

    rate_per_s: float
    sent: int
    answered: int
    failed: int
    unavailable: int
    """Those of the failed that were answered with 503: come again soon."""
    connections: int
    first_byte_p50_ms: float
    first_byte_p99_ms: float
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    send_delay_p99_ms: float
    """How late the client itself sent: its own noise, part of every latency."""
    first_failure: str
    """What the first refused or broken answer said; empty when there was none."""

    @classmethod
    def of(
        cls,
        *,
        rate_per_s: float,
        sent: int,
        unavailable: int,
        connections: int,
        latencies_s: Iterable[float],
        first_bytes_s: Iterable[float],
        send_delays_s: Iterable[float],
        first_failure: str,
    ) -> Self:
        """From the times of all whole answers; without one they are infinite."""
        latencies_ms, first_bytes_ms, delays_ms = (
            sorted(value * 1e3 for value in times_s)
            for times_s in (latencies_s, first_bytes_s, send_delays_s)
        )
        never = [float("inf")]
        return cls(
            rate_per_s=rate_per_s,
            sent=sent,
            answered=len(latencies_ms),
            # Refused, cut off, or not answered by the end.
            failed=sent - len(latencies_ms),
            unavailable=unavailable,
            connections=connections,
            first_byte_p50_ms=percentile(first_bytes_ms or never, 50),
            first_byte_p99_ms=percentile(first_bytes_ms or never, 99),
            latency_p50_ms=percentile(latencies_ms or never, 50),
            latency_p90_ms=percentile(latencies_ms or never, 90),
            latency_p99_ms=percentile(latencies_ms or never, 99),
            latency_max_ms=(latencies_ms or never)[-1],
            send_delay_p99_ms=percentile(delays_ms or never, 99),
            first_failure=first_failure,
        )
