"""Single runs of the gateway bench: one target, one workload, one kind of load."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from loadtests.clients import canned
from loadtests.clients.wrk import WrkResult, run_wrk
from loadtests.errors import MeasurementError
from loadtests.probes.machine import load_average
from loadtests.process import cores_busy
from loadtests.results.report import Recorder
from loadtests.stack.nginx_upstream import NginxUpstream
from loadtests.stack.target import Target, require_right_answers

PROXY_CORE = 0
LOAD_CORE = 1
OPEN_LOOP_WARM_UP_S = 1.0


@dataclass(frozen=True)
class Bench:
    """What every run needs: the upstream, who can be measured, where results go."""

    upstream: NginxUpstream
    targets: Sequence[Target]
    folder: Path
    recorder: Recorder

    def body_file(self, workload: str) -> Path:
        """The request body of a workload, as a file for the load generators."""
        path = self.folder / f"{workload}.json"
        path.write_bytes(canned.chat_request(stream=workload == "stream"))
        return path

    @contextmanager
    def alone(self, target: Target, workload: str) -> Iterator[int]:
        """Let only this target run, on this workload; yields the size of a right answer."""
        self.upstream.answer_with_stream(workload == "stream")
        others = [
            other
            for other in self.targets
            if other.process not in (target.process, self.upstream.process)
        ]
        for other in others:
            other.process.pause()
        try:
            yield require_right_answers(target, stream=workload == "stream")
        finally:
            for other in others:
                other.process.resume()


def saturate(
    bench: Bench, target: Target, workload: str, *, connections: int, duration_s: float
) -> WrkResult:
    """As many requests as are answered, and how busy each core was meanwhile.

    Raises:
        MeasurementError: answers were shorter than the right one.
    """
    load_before = load_average()
    duration_s = max(duration_s, target.run_s_min)
    with bench.alone(target, workload) as body_bytes:
        usage_before, cores_before = target.process.usage(), psutil.cpu_times(percpu=True)
        result = run_wrk(
            target.chat_url,
            body_file=bench.body_file(workload),
            headers=target.headers,
            connections=connections,
            duration_s=duration_s,
            core=LOAD_CORE,
        )
        usage_after, cores_after = target.process.usage(), psutil.cpu_times(percpu=True)
    # Cut-off answers at the end of a run may miss; a proxy that loses events would miss more.
    if result.failures == 0 and result.bytes_per_request < 0.95 * body_bytes:
        raise MeasurementError(
            f"{target.name}: {result.bytes_per_request:.0f} bytes a response, {body_bytes} wanted"
        )
    bench.recorder.add(
        kind="saturation",
        target=target.name,
        workload=workload,
        connections=connections,
        requests_per_s=result.requests_per_s,
        failures=result.failures,
        target_cores_busy=cores_busy(usage_before, usage_after),
        # What a request costs holds also where the core had to be shared with others.
        cpu_us_per_request=1e6 * (usage_after.cpu_s - usage_before.cpu_s) / result.requests,
        proxy_core_busy=busy_share(cores_before[PROXY_CORE], cores_after[PROXY_CORE]),
        load_core_busy=busy_share(cores_before[LOAD_CORE], cores_after[LOAD_CORE]),
        rss_bytes=usage_after.rss_bytes_largest,
        load_average_before=load_before,
        wrk=asdict(result),
    )
    return result


def hold_rate(
    bench: Bench, target: Target, workload: str, *, rate_per_s: float, duration_s: float
) -> dict[str, Any]:
    """A constant rate, sent by a process of its own; returns its figures.

    Raises:
        MeasurementError: the client failed.
    """
    load_before = load_average()
    duration_s = max(duration_s, target.run_s_min)
    argv = [
        "taskset",
        "--cpu-list",
        str(LOAD_CORE),
        sys.executable,
        "-m",
        "loadtests.clients.open_loop",
    ]
    argv += [target.chat_url, "--body-file", str(bench.body_file(workload))]
    argv += ["--rate-per-s", str(rate_per_s), "--duration-s", str(duration_s)]
    argv += ["--warm-up-s", str(OPEN_LOOP_WARM_UP_S)]
    for name, value in target.headers.items():
        argv += ["--header", f"{name}: {value}"]
    with bench.alone(target, workload):
        usage_before = target.process.usage()
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=duration_s + 120, check=False
        )
        usage_after = target.process.usage()
    if done.returncode != 0:
        raise MeasurementError(f"the open-loop client failed: {done.stderr[-500:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    bench.recorder.add(
        kind="open_loop",
        target=target.name,
        workload=workload,
        target_cores_busy=cores_busy(usage_before, usage_after),
        load_average_before=load_before,
        **figures,
    )
    return figures


def busy_share(before: Any, after: Any) -> float:
    """The part of a core's time between two readings in which it was not idle."""
    idle_s = (after.idle + after.iowait) - (before.idle + before.iowait)
    total_s = sum(after) - sum(before)
    return 1 - idle_s / total_s if total_s > 0 else 0.0
