"""`python -m loadtests.spike`: the whole stack under 20 times its capacity; pass or fail.

Two Redis servers, the engine simulator and the gateway start as processes; locust first finds
what the engines sustain with exactly as many callers as slots, then sends the spike: a crowd at
20 times that rate over equal accounts, one account with 100 connections, and callers who come
back as the SDKs do. What comes of it is held against an SLO file.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from loadtests.crowd.chat_record import ChatRecord
from loadtests.crowd.locust_run import run_locust
from loadtests.errors import BenchError, MeasurementError
from loadtests.process import cores_busy, require_tools
from loadtests.results.report import Recorder, Table, add_results_option
from loadtests.results.slo import SPIKE_SLO, Check, checks, load_slo
from loadtests.results.spike_figures import SpikeFigures, Window, spike_figures, useful_tokens_per_s
from loadtests.stack.simulator_process import require_in_time
from loadtests.stack.whole_stack import MODEL, MemoryWatch, Stack, StackPlan, plan_of


@dataclass(frozen=True)
class SpikePlan:
    """How much of what."""

    stack: StackPlan
    duration_s: float = 180.0
    overload: float = 20.0
    accounts: int = 17
    greedy_connections: int = 100
    calm_s: float = 45.0
    sustain_s: float = 30.0
    prompt_words: int = 48
    output_tokens: int = 128

    def chat_options(self) -> list[str]:
        """The chat's size, for locust."""
        return [
            *("--model", MODEL, "--slots", str(self.stack.slots)),
            *("--prompt-words", str(self.prompt_words)),
            *("--output-tokens", str(self.output_tokens)),
        ]


def spike_stack() -> StackPlan:
    """Two replicas of 32 slots, and room in line for 16 requests of each account."""
    return StackPlan(plans={"free": plan_of()})


def run_spike(plan: SpikePlan, recorder: Recorder) -> SpikeFigures:
    """Start everything, find the best sustainable, send the spike; its figures.

    The recorder has the simulator's lag: whether its times can be trusted is for the caller.

    Raises:
        BenchError: something did not start, or it was no overload.
    """
    require_tools("redis-server", "setpriv")
    with tempfile.TemporaryDirectory(prefix="floodgate-spike-") as name:
        folder = Path(name)
        with Stack(plan.stack, folder) as stack:
            figures = spike_on(stack, plan, folder, recorder)
            stack.gateway.require_running()
    return figures


def spike_on(stack: Stack, plan: SpikePlan, folder: Path, recorder: Recorder) -> SpikeFigures:
    """The two runs on a stack."""
    accounts = stack.accounts({"free": plan.accounts})
    sustained = run_locust(
        stack.url,
        accounts,
        folder,
        scenario="closed",
        run_s=plan.sustain_s,
        options=["--duration-s", str(plan.sustain_s), *plan.chat_options()],
    )
    sustained_window = closed_window(sustained)
    capacity_per_s = useful_tokens_per_s(sustained, *sustained_window) / plan.output_tokens
    if capacity_per_s <= 0:
        raise MeasurementError("nothing was served within capacity")
    options = ["--duration-s", str(plan.duration_s), "--calm-s", str(plan.calm_s)]
    options += ["--overload", str(plan.overload), "--capacity-per-s", str(capacity_per_s)]
    options += ["--greedy-connections", str(plan.greedy_connections), *plan.chat_options()]
    usage_before = stack.gateway.usage()
    with MemoryWatch(stack.gateway) as memory:
        records = run_locust(
            stack.url,
            accounts,
            folder,
            scenario="spike",
            run_s=plan.duration_s + 2 * plan.calm_s,
            options=options,
        )
    figures = spike_figures(
        sustained,
        sustained_window,
        records,
        crowd_window(records, plan.duration_s),
        memory.samples,
        slots=plan.stack.slots,
    )
    recorder.fact("capacity_chats_per_s", capacity_per_s)
    recorder.fact("gateway_cores_busy", cores_busy(usage_before, stack.gateway.usage()))
    recorder.fact("simulator_lag_s_max", stack.simulator.lag_s_max())
    recorder.fact("gateway_memory_bytes", memory.samples)
    recorder.add(kind="spike", plan=asdict(plan), **asdict(figures))
    return figures


def closed_window(records: Sequence[ChatRecord]) -> tuple[float, float]:
    """Where a closed run was steady: from its third second to one chat before its end.

    Raises:
        MeasurementError: it was too short.
    """
    whole = [record for record in records if record.outcome == "whole"]
    if not whole:
        raise MeasurementError(f"no chat was answered; first: {records[:1]}")
    begins_s = min(record.sent_at_s for record in whole) + 3.0
    longest_s = max(record.end_s for record in whole)
    ends_s = max(record.sent_at_s + record.end_s for record in whole) - longest_s
    if ends_s <= begins_s:
        raise MeasurementError("the run within capacity was too short for a steady part")
    return begins_s, ends_s


def crowd_window(records: Sequence[ChatRecord], duration_s: float) -> Window:
    """When the crowd came, and when it left."""
    arrivals = [record.sent_at_s for record in records if record.user == "crowd"]
    if not arrivals:
        raise MeasurementError("no crowd came")
    return Window(min(arrivals), min(arrivals) + duration_s)


def tables(figures: SpikeFigures, found: Sequence[Check]) -> list[Table]:
    """Bounds and figures, what was answered, and what has no bound."""
    rows = []
    for check in found:
        value = "not measured" if check.value is None else f"{check.value:,.3f}"
        bound = f"{'≤' if check.is_upper else '≥'} {check.bound:g}"
        rows.append((check.name, bound, value, "met" if check.is_met else "missed"))
    return [
        Table("Spike against its bounds", ("figure", "bound", "found", "verdict"), rows),
        outcome_table(figures),
    ]


def outcome_table(figures: SpikeFigures) -> Table:
    """How requests of the steady part of the spike ended."""
    total = sum(figures.outcomes.values())
    rows = [
        (name, f"{count:,}", f"{count / total:.1%}") for name, count in figures.outcomes.items()
    ]
    waits = (
        "none"
        if figures.wait_p50_s is None
        else f"{figures.wait_p50_s:.1f} / {figures.wait_p99_s:.1f} s"
    )
    return Table(
        "How requests ended during the spike",
        ("answer", "requests", "share"),
        rows,
        notes=(
            f"offered: {figures.offered_per_s:.0f} requests/s, "
            f"{figures.offered_over_capacity:.1f} times what the engines sustain",
            f"useful tokens/s: {figures.useful_tokens_per_s:.0f} of "
            f"{figures.sustainable_tokens_per_s:.0f} sustainable",
            f"first token of served chats, p50 / p99: {waits}",
            f"largest service gap: {figures.service_gap:.0f} tokens of "
            f"{figures.service_gap_bound:.0f} allowed, over "
            f"{figures.backlogged_accounts} backlogged accounts",
        ),
    )


def read_options() -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.spike",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slo", type=Path, default=SPIKE_SLO, help="bounds, a YAML file")
    parser.add_argument("--duration-s", type=float, default=SpikePlan.duration_s)
    parser.add_argument("--overload", type=float, default=SpikePlan.overload)
    parser.add_argument("--calm-s", type=float, default=SpikePlan.calm_s)
    add_results_option(parser)
    options = parser.parse_args()
    if options.duration_s < 20 or options.overload < 2 or options.calm_s < 1:
        parser.error("--duration-s 20, --overload 2 and --calm-s 1 are the least")
    return options


def main() -> int:
    """Run; 0 when every bound is met, 1 when one is missed, 2 when there was no result."""
    options, console = read_options(), Console()
    try:
        slo = load_slo(options.slo)
        recorder = Recorder("spike", options.results)
        plan = SpikePlan(
            spike_stack(),
            duration_s=options.duration_s,
            overload=options.overload,
            calm_s=options.calm_s,
        )
        figures = run_spike(plan, recorder)
        require_in_time(recorder.facts["simulator_lag_s_max"])
    except BenchError as error:
        print(f"spike: {error}", file=sys.stderr)
        return 2
    found = list(checks(slo, figures))
    for table in tables(figures, found):
        table.print(console)
    is_passed = all(check.is_met for check in found)
    recorder.fact("passed", is_passed)
    console.print(f"{'pass' if is_passed else 'FAIL'}; details: {recorder.path}", highlight=False)
    return 0 if is_passed else 1


if __name__ == "__main__":
    sys.exit(main())
