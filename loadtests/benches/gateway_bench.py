"""The gateway alone: one worker on one core, everything else of the bench on the other.

Saturation (wrk, closed loop) gives requests/s and streams/s; then half of that rate (open loop)
gives the latency that the gateway adds to the bare upstream's. Peers run in between, so that a
drifting machine hits all alike.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.benches.gateway_memory import watch_memory
from loadtests.benches.gateway_runs import (
    LOAD_CORE,
    PROXY_CORE,
    Bench,
    hold_rate,
    saturate,
)
from loadtests.benches.gateway_tables import tables
from loadtests.clients.canned import WORKLOADS
from loadtests.percentiles import median
from loadtests.probes.profiling import profile, summary_text
from loadtests.process import require_tools
from loadtests.results.report import Recorder, Table
from loadtests.settings import BenchSettings
from loadtests.stack import peers
from loadtests.stack.floodgate_process import start_gateway
from loadtests.stack.nginx_upstream import NginxUpstream
from loadtests.stack.redis_pair import RedisPair
from loadtests.stack.target import Target

BARE = "nginx, no proxy"


@dataclass(frozen=True)
class GatewayPlan:
    """How much to measure."""

    rounds: int = 3
    duration_s: float = 10.0
    connections: int = 32
    memory_checkpoints: tuple[int, ...] = (10_000, 50_000, 100_000)
    with_peers: bool = True
    with_profile: bool = False

    def quick(self) -> "GatewayPlan":
        """The same in three minutes: enough to see that it works, not for figures."""
        return replace(self, rounds=1, duration_s=3.0, memory_checkpoints=(10_000,))


def run_gateway_bench(
    plan: GatewayPlan, settings: BenchSettings, recorder: Recorder
) -> list[Table]:
    """Start everything, measure, stop everything; the tables of what was found."""
    require_tools("nginx", "redis-server", "wrk", "taskset", "setpriv")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floodgate-bench-")))
        # nginx, started by root, works as another user and must see its flag file.
        folder.chmod(0o711)
        upstream = stack.enter_context(NginxUpstream(folder / "nginx", LOAD_CORE))
        redis = stack.enter_context(RedisPair(folder / "redis", LOAD_CORE))
        tokenizer = settings.tokenizer
        recorder.fact("prompts_counted_in", "tokens" if tokenizer else "bytes")
        gateway = start_gateway(upstream.url, redis, folder, PROXY_CORE, tokenizer)
        stack.enter_context(gateway.process)
        bare = Target(BARE, upstream.url, upstream.process, checks="none")
        yardstick = peers.start_yardstick(upstream.url, redis.flow_url, folder, PROXY_CORE)
        stack.enter_context(yardstick.process)
        targets = [bare, gateway, yardstick]
        if plan.with_peers:
            for peer in start_peers(upstream.url, settings, folder):
                stack.enter_context(peer.process)
                targets.append(peer)
        bench = Bench(upstream, targets, folder, recorder)
        recorder.fact("targets", {target.name: target.checks for target in targets})
        measure(bench, plan, gateway)
        if plan.with_profile:
            profile_gateway(bench, plan, gateway)
    return tables(recorder, gateway.name, BARE, yardstick.name)


def start_peers(upstream_url: str, settings: BenchSettings, folder: Path) -> list[Target]:
    """LiteLLM proxy and vllm-router, installed on first use."""
    router = peers.install(peers.VLLM_ROUTER, settings.peers)
    litellm = peers.install(peers.LITELLM, settings.peers)
    started = [peers.start_vllm_router(router, upstream_url, folder, PROXY_CORE)]
    try:
        started.append(peers.start_litellm(litellm, upstream_url, folder, PROXY_CORE))
    except BaseException:
        started[0].process.stop()
        raise
    return started


def measure(bench: Bench, plan: GatewayPlan, gateway: Target) -> None:
    """Memory first, on a fresh gateway; then rounds of saturation; then of half that rate."""
    watch_memory(bench, gateway, checkpoints=plan.memory_checkpoints, connections=plan.connections)
    # What follows counts; what came before warmed the gateway up.
    bench.recorder.fact("first_counted_run", len(bench.recorder.runs))
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(plan.rounds):
        for workload in WORKLOADS:
            for target in bench.targets:
                result = saturate(
                    bench,
                    target,
                    workload,
                    connections=plan.connections,
                    duration_s=plan.duration_s,
                )
                rates.setdefault((target.name, workload), []).append(result.requests_per_s)
    for _ in range(plan.rounds):
        for workload in WORKLOADS:
            rate_per_s = median(rates[gateway.name, workload]) / 2
            for target in bench.targets:
                own_rate_per_s = median(rates[target.name, workload]) / 2
                hold_rate(
                    bench,
                    target,
                    workload,
                    # A peer that cannot hold the gateway's rate gets half of its own.
                    rate_per_s=min(rate_per_s, own_rate_per_s),
                    duration_s=plan.duration_s,
                )


def profile_gateway(bench: Bench, plan: GatewayPlan, gateway: Target) -> None:
    """Sample the worker at saturation, once a workload, and write stacks and summary."""
    worker = max(gateway.process.tree(), key=lambda process: sum(process.cpu_times()[:2]))
    for workload in WORKLOADS:
        stacks = bench.recorder.folder / f"{bench.recorder.stem}-{workload}.collapsed"
        with profile(worker.pid, plan.duration_s, stacks, LOAD_CORE):
            saturate(
                bench,
                gateway,
                workload,
                connections=plan.connections,
                duration_s=plan.duration_s + 1,
            )
        # A sampled process is slower: its rate is no figure.
        bench.recorder.runs.pop()
        bench.recorder.write()
        stacks.with_suffix(".txt").write_text(summary_text(stacks))
