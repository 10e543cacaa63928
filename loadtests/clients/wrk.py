"""wrk as the load at saturation: a closed loop that sends as fast as it is answered.

Its latencies suffer from coordinated omission (it waits before it sends again), so that only its
rates are figures; latency at a given rate comes from `loadtests.clients.open_loop`.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.errors import MeasurementError
from loadtests.process import require_tools

SCRIPT = Path(__file__).parents[1] / "lua" / "chat.lua"
ANSWER_TIMEOUT_S = 30
MARK = "WRK "


@dataclass(frozen=True)
class WrkResult:
    """What one run of wrk saw."""

    duration_s: float
    requests: int
    bytes_read: int
    failures: int
    latency_p50_ms: float
    latency_p99_ms: float

    @property
    def requests_per_s(self) -> float:
        """Finished requests a second."""
        return self.requests / self.duration_s

    @property
    def bytes_per_request(self) -> float:
        """Mean size of a response with its head."""
        return self.bytes_read / max(self.requests, 1)


def run_wrk(
    url: str,
    *,
    body_file: Path,
    headers: Mapping[str, str],
    connections: int,
    duration_s: float,
    core: int,
) -> WrkResult:
    """Load `url` with POSTs of the body for a while, from one thread on one core.

    Raises:
        MissingToolError: wrk is not installed.
        MeasurementError: wrk failed, or nothing was answered.
    """
    require_tools("wrk", "taskset")
    argv = ["taskset", "--cpu-list", str(core), "wrk", "--threads", "1"]
    argv += ["--connections", str(connections), "--duration", f"{max(1, round(duration_s))}s"]
    argv += ["--timeout", f"{ANSWER_TIMEOUT_S}s", "--script", str(SCRIPT), url]
    argv += ["--", str(body_file), *(f"{name}: {value}" for name, value in headers.items())]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=duration_s + 2 * ANSWER_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise MeasurementError(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    try:
        return parse_wrk_output(done.stdout)
    except MeasurementError as error:
        raise MeasurementError(f"{url}, {body_file.stem}: {error}") from error


def parse_wrk_output(output: str) -> WrkResult:
    """Read the line that lua/chat.lua writes.

    Raises:
        MeasurementError: the line is missing, or no request was answered.
    """
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise MeasurementError(f"wrk printed no figures:\n{output}")
    figures = json.loads(line.removeprefix(MARK))
    if not figures["requests"]:
        raise MeasurementError(f"wrk got no answer at all: {figures['errors']}")
    return WrkResult(
        duration_s=figures["duration_us"] / 1e6,
        requests=figures["requests"],
        bytes_read=figures["bytes"],
        failures=sum(figures["errors"].values()),
        latency_p50_ms=figures["latency_us"]["p50"] / 1e3,
        latency_p99_ms=figures["latency_us"]["p99"] / 1e3,
    )
