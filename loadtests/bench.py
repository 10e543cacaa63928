"""`python -m loadtests.bench NAME`: measure, print tables, write them down.

gateway    one worker alone, beside other proxies
engine     the whole path beside bare vLLM
overload   20 times the capacity of simulated engines; shares by weight
line       10,000 waiting requests on one worker
hang-up    how soon everything is free after a caller has left
waitlist   a million waiting people: what each costs, joins, places, letting them in
replicas   what a request costs the gateway and the line with 1 to 64 replicas
scaling    one real replica against two, on a core each

Result files and profiles go to --results; the figures also to docs/performance.md, unless the run
was a quick one.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loadtests.benches.engine_bench import run_engine_bench
from loadtests.benches.engine_plan import EnginePlan
from loadtests.benches.gateway_bench import GatewayPlan, run_gateway_bench
from loadtests.benches.hang_up_bench import HangUpPlan, run_hang_up_bench
from loadtests.benches.line_bench import LinePlan, run_line_bench
from loadtests.benches.overload_bench import full_plan, run_overload_bench
from loadtests.benches.replicas_bench import ReplicasPlan, run_replicas_bench
from loadtests.benches.scaling_bench import ScalingPlan, run_scaling_bench
from loadtests.benches.waitlist_bench import WaitlistPlan, run_waitlist_bench
from loadtests.errors import BenchError
from loadtests.results.performance_page import write_figures
from loadtests.results.report import Recorder, Table, add_results_option
from loadtests.settings import BenchSettings

NAMES = ("gateway", "engine", "overload", "line", "hang-up", "waitlist", "replicas", "scaling")


def main() -> int:
    """Read the command line, run, report; 0, or 1 with a message on standard error."""
    options = read_options()
    console = Console()
    settings = BenchSettings()
    names = NAMES if options.bench == "all" else (options.bench,)
    for name in names:
        recorder = Recorder(name, options.results)
        try:
            found = run_bench(name, options, settings, recorder)
            print_tables(console, found, recorder)
            if options.write:
                write_figures(name, figures_text(found, recorder))
        except BenchError as error:
            print(f"bench {name}: {error}", file=sys.stderr)
            return 1
    return 0


def read_options() -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bench", nargs="?", default="all", choices=(*NAMES, "all"), help="what to run"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes each, to see that it works; no figures"
    )
    parser.add_argument(
        "--rounds", type=int, help="runs of each (gateway, waitlist, replicas 3, engine, hang-up 5)"
    )
    parser.add_argument(
        "--model", type=Path, help="model folder for engine, scaling (default: Floodgate's own)"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave the other proxies out")
    parser.add_argument(
        "--profile", action="store_true", help="also sample the gateway worker with py-spy"
    )
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="rewrite the figures of docs/performance.md (default: unless --quick)",
    )
    add_results_option(parser)
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.write is None:
        options.write = not options.quick
    return options


def run_bench(
    name: str, options: argparse.Namespace, settings: BenchSettings, recorder: Recorder
) -> list[Table]:
    """One bench by name."""
    if name == "gateway":
        gateway = GatewayPlan(with_peers=not options.no_peers, with_profile=options.profile)
        gateway = gateway.quick() if options.quick else gateway
        gateway = replace(gateway, rounds=options.rounds or gateway.rounds)
        return run_gateway_bench(gateway, settings, recorder)
    if name == "engine":
        engine = EnginePlan(model=options.model)
        engine = engine.quick() if options.quick else engine
        engine = replace(engine, rounds=options.rounds or engine.rounds)
        return run_engine_bench(engine, settings, recorder)
    if name == "overload":
        overload = full_plan()
        return run_overload_bench(overload.quick() if options.quick else overload, recorder)
    if name == "line":
        line = LinePlan()
        return run_line_bench(line.quick() if options.quick else line, recorder)
    if name == "waitlist":
        waitlist = WaitlistPlan()
        waitlist = waitlist.quick() if options.quick else waitlist
        waitlist = replace(waitlist, rounds=options.rounds or waitlist.rounds)
        return run_waitlist_bench(waitlist, recorder)
    if name == "replicas":
        replicas = ReplicasPlan()
        replicas = replicas.quick() if options.quick else replicas
        replicas = replace(replicas, rounds=options.rounds or replicas.rounds)
        return run_replicas_bench(replicas, recorder)
    if name == "scaling":
        scaling = ScalingPlan(model=options.model)
        return run_scaling_bench(scaling.quick() if options.quick else scaling, settings, recorder)
    hang_up = HangUpPlan()
    hang_up = hang_up.quick() if options.quick else hang_up
    hang_up = replace(hang_up, rounds=options.rounds or hang_up.rounds)
    return run_hang_up_bench(hang_up, recorder)


def print_tables(console: Console, found: list[Table], recorder: Recorder) -> None:
    """All tables, then where the details are."""
    for table in found:
        table.print(console)
    console.print(f"details: {recorder.path}", highlight=False)


def figures_text(found: list[Table], recorder: Recorder) -> str:
    """The tables for the page, each above its date, machine, command and result file."""
    return "\n\n".join(f"{table.to_markdown()}\n\n{recorder.caption()}" for table in found)


if __name__ == "__main__":
    sys.exit(main())
