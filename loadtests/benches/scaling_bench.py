"""One real replica against two, each computing on one core of its own: what the second one adds.

The same chats, more at once than both have slots, go to `floodgate up` with one replica, with two,
and with one again: the machine drifts, so two is held against the mean of both runs of one.
Gateway, Redis, Ray and the load have no cores of their own. Where the machine has as many cores as
replicas they take from the engines what they need, from two more than from one.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from loadtests.benches.engine_bench import first_model
from loadtests.benches.whole_path import start_whole_path
from loadtests.clients.chat_client import prompts, run_chats
from loadtests.errors import ProcessFailedError
from loadtests.percentiles import median
from loadtests.probes.machine import load_average
from loadtests.process import Process, cores_busy, require_tools
from loadtests.results.report import Recorder, Table, spread
from loadtests.settings import BenchSettings

ALL_UP_S_MAX = 300.0
LOOK_S = 0.5
ONE_CORE_EACH = {"FLOODGATE_CPU_THREADS": "1", "FLOODGATE_CPU_BINDING": "disjoint"}


@dataclass(frozen=True)
class ScalingPlan:
    """Which numbers of replicas in which order; chats at a time, and in all.

    A replica on a CPU has 32 slots: 192 chats are six rounds of one, and three of two.
    """

    model: Path | None = None
    replicas: tuple[int, ...] = (1, 2, 1)
    concurrency: int = 128
    chats: int = 192
    output_tokens: int = 64

    def quick(self) -> "ScalingPlan":
        """Enough to see that it works, not for figures."""
        return replace(self, replicas=(1, 2), chats=64, output_tokens=16)


def run_scaling_bench(
    plan: ScalingPlan, settings: BenchSettings, recorder: Recorder
) -> list[Table]:
    """Start, measure and stop each in turn.

    Raises:
        BenchError: something did not start, or a chat was not answered.
    """
    require_tools("redis-server", "setpriv")
    recorder.fact("scaling_plan", {**asdict(plan), "model": str(plan.model or "default")})
    for number, replicas in enumerate(plan.replicas):
        figures = measure_replicas(plan, settings, replicas, seed=number)
        recorder.add(kind="scaling", round=number, replicas=replicas, **figures)
    return [scaling_table(recorder.runs, plan.concurrency)]


def measure_replicas(
    plan: ScalingPlan, settings: BenchSettings, replicas: int, seed: int
) -> dict[str, Any]:
    """`floodgate up` with so many replicas under more chats than it has slots."""
    home = settings.home / "bench" / "scaling"
    with tempfile.TemporaryDirectory(prefix="floodgate-scaling-") as name:
        whole = start_whole_path(
            plan.model,
            home,
            settings.cache_folder,
            Path(name),
            replicas=replicas,
            environment=ONE_CORE_EACH,
        )
        target = whole.target
        with target.process:
            wait_until_running(home, replicas, target.process)
            model = first_model(target)

            def chat(count: int, seed: int) -> Any:
                return run_chats(
                    target.chat_url,
                    model=model,
                    headers=target.headers,
                    texts=prompts(count, seed=seed),
                    concurrency=min(count, plan.concurrency),
                    output_tokens=plan.output_tokens,
                )

            chat(32 * replicas, seed=10_000 + seed)  # the first ones pay for what later ones find
            load_before, before = load_average(), target.process.usage()
            idle_before = psutil.cpu_times()
            load = chat(plan.chats, seed=seed)
            idle_s = psutil.cpu_times().idle - idle_before.idle
            after = target.process.usage()
    return {
        "tokens_per_s": load.tokens_per_s,
        "ttft_p50_ms": load.ttft_ms(50),
        "cores_busy": cores_busy(before, after),
        "cores_idle": idle_s / load.duration_s,
        "start_s": whole.start.first_token_s,
        "load_average_before": load_before,
    }


def wait_until_running(home: Path, replicas: int, process: Process) -> None:
    """Until so many replicas publish that they run: the first token needs only one.

    Raises:
        ProcessFailedError: they do not, or `floodgate up` ended.
    """
    state = json.loads((home / "run" / "state.json").read_text())
    give_up_at_s = time.monotonic() + ALL_UP_S_MAX
    with Redis.from_url(state["flow_url"], decode_responses=True) as flow:
        while True:
            texts = [flow.get(name) for name in flow.scan_iter("fg:replica:*")]
            running = [text for text in texts if text and json.loads(text)["state"] == "running"]
            if len(running) == replicas:
                return
            if time.monotonic() > give_up_at_s:
                raise ProcessFailedError(f"{len(running)} of {replicas} replicas run")
            process.wait_while_running(LOOK_S)


def scaling_table(runs: Sequence[dict[str, Any]], concurrency: int) -> Table:
    """Tokens/s by replicas, and what several do over what one does."""
    base = _figures(runs, 1, "tokens_per_s")
    rows = []
    for replicas in sorted({int(run["replicas"]) for run in runs}):
        found = _figures(runs, replicas, "tokens_per_s")
        rows.append(
            (
                str(replicas),
                spread(found),
                f"{median(found) / (sum(base) / len(base)):.2f}",
                f"{median(_figures(runs, replicas, 'cores_busy')):.2f}",
                f"{median(_figures(runs, replicas, 'cores_idle')):.2f}",
            )
        )
    return Table(
        f"Real replicas on one core each, {concurrency} chats at once",
        (
            "replicas",
            "tokens/s",
            "over one replica",
            "cores busy with Floodgate",
            "cores idle",
        ),
        rows,
    )


def _figures(runs: Sequence[dict[str, Any]], replicas: int, name: str) -> list[float]:
    return [float(run[name]) for run in runs if run["replicas"] == replicas]
