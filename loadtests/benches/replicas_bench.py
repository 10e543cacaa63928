"""What replicas cost the gateway: the same load on the same slots, spread over 1 to 64 replicas.

All slots together, the callers and what an answer takes stay the same, so that only the number of
replicas changes. `free` is a constant rate with slots free everywhere; `line` keeps more callers
than slots, so that each slot that comes free goes to somebody who waits.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from loadtests.accounts import Account
from loadtests.benches.line_bench import bucket_percentile, grant_buckets, grants_since
from loadtests.benches.replica_costs import CostGauge, RestCost, request_cost, rest_cost
from loadtests.benches.replicas_tables import replicas_tables
from loadtests.benches.waitlist_load import OpenLoopLoad, require_answered
from loadtests.clients.chat_client import prompts
from loadtests.clients.line_client import Waiters
from loadtests.errors import MeasurementError
from loadtests.results.report import Recorder, Table
from loadtests.stack.whole_stack import MODEL, Stack, StackPlan, plan_of

# Callers who are gone are followed at once: a line of 128 loses five in this time.
FILL_PERIOD_S = 0.01
CLIENT_ENDS_S_MAX = 120.0


@dataclass(frozen=True)
class ReplicasPlan:
    """Which numbers of replicas, with how many slots between them, and under which load.

    An answer takes 0.3 s on average (profile `apart`), so 128 slots answer 420 requests/s at most:
    half of what one worker can do on two cores that it shares with everything else.
    """

    replicas: tuple[int, ...] = (1, 4, 16, 64)
    slots: int = 128
    rounds: int = 3
    rate_per_s: float = 300.0
    waiting: int = 128
    accounts: int = 32
    output_tokens: int = 4
    rest_s: float = 3.0
    warm_up_s: float = 2.0
    run_s: float = 5.0

    def quick(self) -> "ReplicasPlan":
        """Enough to see that it works, not for figures."""
        return replace(self, replicas=(1, 64), rounds=1, run_s=4.0)

    def stack(self, replicas: int) -> StackPlan:
        """So many replicas with all slots between them."""
        return StackPlan(
            plans={"free": plan_of(waiting_requests=2 * self.waiting)},
            profile="apart",
            replicas=replicas,
            slots_per_replica=self.slots // replicas,
        )

    def body(self, text: str) -> dict[str, object]:
        """A chat."""
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": self.output_tokens,
            "ignore_eos": True,
            "stream": True,
        }


def run_replicas_bench(plan: ReplicasPlan, recorder: Recorder) -> list[Table]:
    """Every number of replicas in each round, one after the other; every other round backwards.

    Raises:
        BenchError: something did not start, or a run cannot be trusted.
    """
    recorder.fact("replicas_plan", asdict(plan))
    for number in range(plan.rounds):
        for replicas in plan.replicas if number % 2 == 0 else reversed(plan.replicas):
            with (
                tempfile.TemporaryDirectory(prefix="floodgate-replicas-") as name,
                Stack(plan.stack(replicas), Path(name)) as stack,
                CostGauge(stack) as gauge,
            ):
                bench = ReplicasRun(plan, stack, gauge, Path(name))
                for kind, figures in bench.measure().items():
                    recorder.add(kind=kind, round=number, replicas=replicas, **figures)
                stack.gateway.require_running()
                stack.simulator.require_in_time()
    return replicas_tables(recorder.runs)


class ReplicasRun:
    """One stack: at rest, with slots free, with a line."""

    def __init__(self, plan: ReplicasPlan, stack: Stack, gauge: CostGauge, folder: Path) -> None:
        self._plan = plan
        self._stack = stack
        self._gauge = gauge
        self._folder = folder

    def measure(self) -> dict[str, dict[str, Any]]:
        """All figures by kind. Raises MeasurementError when somebody was refused."""
        accounts = self._stack.accounts({"free": self._plan.accounts})
        self._hold_rate(accounts[0], self._plan.warm_up_s)
        rest = self._rest()
        return {
            "rest": asdict(rest),
            "free": self._free(accounts[0], rest),
            "line": uvloop.run(self._line(accounts, rest)),
        }

    def _rest(self) -> RestCost:
        before = self._gauge.read()
        self._stack.gateway.wait_while_running(self._plan.rest_s)
        return rest_cost(self._gauge.read().since(before))

    def _free(self, account: Account, rest: RestCost) -> dict[str, Any]:
        grants_before, before = grant_buckets(self._stack), self._gauge.read()
        latencies = self._hold_rate(account, self._plan.run_s)
        use = self._gauge.read().since(before)
        return {
            **asdict(request_cost(use, rest)),
            **self._grant_times(grants_before),
            "first_byte_p50_ms": latencies["first_byte_p50_ms"],
            "first_byte_p99_ms": latencies["first_byte_p99_ms"],
        }

    def _hold_rate(self, account: Account, run_s: float) -> dict[str, Any]:
        """A client of its own, at a constant rate; every chat begins otherwise."""
        bodies = self._folder / "bodies.jsonl"
        texts = prompts(1_000, seed=1)
        bodies.write_text("".join(json.dumps(self._plan.body(text)) + "\n" for text in texts))
        load = OpenLoopLoad(self._plan.rate_per_s, run_s, warm_up_s=0.0)
        argv = [sys.executable, "-m", "loadtests.clients.open_loop"]
        argv += [f"{self._stack.url}/v1/chat/completions", "--bodies-file", str(bodies)]
        argv += ["--header", f"Authorization: Bearer {account.api_key}", *load.arguments()]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=CLIENT_ENDS_S_MAX, check=False
        )
        if done.returncode != 0:
            raise MeasurementError(f"the open-loop client failed: {done.stderr[-500:]}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return require_answered(figures)

    async def _line(self, accounts: Sequence[Account], rest: RestCost) -> dict[str, Any]:
        (text,) = prompts(1, seed=2)
        waiters = Waiters(self._stack.url, accounts, self._plan.body(text))
        await self._keep_full(waiters, self._plan.warm_up_s)
        grants_before = await asyncio.to_thread(grant_buckets, self._stack)
        before = await asyncio.to_thread(self._gauge.read)
        fewest = await self._keep_full(waiters, self._plan.run_s)
        use = (await asyncio.to_thread(self._gauge.read)).since(before)
        grants = await asyncio.to_thread(self._grant_times, grants_before)
        waiters.hang_up()
        if waiters.ends.get("refused") or waiters.ends.get("lost"):
            raise MeasurementError(f"not everybody could wait: {waiters.ends}")
        if fewest <= self._plan.slots:
            raise MeasurementError(f"{fewest} callers at a time are no line at {self._plan.slots}")
        return {**asdict(request_cost(use, rest)), **grants, "callers_fewest": fewest}

    async def _keep_full(self, waiters: Waiters, seconds: float) -> int:
        """Fill up whoever has left; the fewest callers that there were at any look."""
        callers = self._plan.slots + self._plan.waiting
        await waiters.fill(callers)
        fewest, ends_at_s = callers, time.monotonic() + seconds
        while time.monotonic() < ends_at_s:
            await asyncio.sleep(FILL_PERIOD_S)
            fewest = min(fewest, len(waiters.open))
            await waiters.fill(callers)
        return fewest

    def _grant_times(self, before: dict[float, float]) -> dict[str, float]:
        grants = grants_since(self._stack, before)
        return {
            "grants": grants[-1][1] if grants else 0.0,
            "grant_p50_ms": 1e3 * bucket_percentile(grants, 50),
            "grant_p99_ms": 1e3 * bucket_percentile(grants, 99),
        }
