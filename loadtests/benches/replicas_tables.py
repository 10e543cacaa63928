"""The replicas bench's runs as tables: what a request costs, by the number of replicas. Pure."""

from collections.abc import Sequence
from typing import Any

from loadtests.percentiles import median
from loadtests.results.report import Table, spread, verdict

COST_RATIO_MAX = 1.15
LOADS = {"free": "slots free everywhere", "line": "with a standing line"}
JUDGED = {"gateway_us": "gateway worker", "flow_us": "flow Redis"}

Run = dict[str, Any]


def replicas_tables(runs: Sequence[Run]) -> list[Table]:
    """Every table of the simulated part."""
    return [
        *(cost_table(runs, load) for load in LOADS),
        ratio_table(runs),
        rest_table(runs),
    ]


def cost_table(runs: Sequence[Run], load: str) -> Table:
    """What a request costs under one load."""
    rows = []
    for replicas in numbers(runs):
        costs = [
            spread(figures(runs, load, replicas, name), digits)
            for name, digits in (("gateway_us", 0), ("flow_us", 0), ("scripts_us", 0))
        ]
        rows.append(
            (
                str(replicas),
                f"{median(figures(runs, load, replicas, 'requests_per_s')):,.0f}",
                *costs,
                f"{median(figures(runs, load, replicas, 'round_trips')):.2f}",
                *(
                    f"≤ {median(figures(runs, load, replicas, f'grant_{which}_ms')):g}"
                    for which in ("p50", "p99")
                ),
            )
        )
    return Table(
        f"A request by the number of replicas, {LOADS[load]}",
        (
            "replicas",
            "requests/s",
            "gateway (CPU µs)",
            "flow Redis (CPU µs)",
            "of it held by scripts (µs)",
            "Redis round trips",
            "grant to first byte p50 (ms)",
            "p99 (ms)",
        ),
        rows,
    )


def ratio_table(runs: Sequence[Run]) -> Table:
    """The cost of the largest number of replicas over that of the smallest, within a round."""
    least, most = numbers(runs)[0], numbers(runs)[-1]
    rows = []
    for load, words in LOADS.items():
        for name, who in JUDGED.items():
            ratios = [
                high / low
                for low, high in zip(
                    figures(runs, load, least, name), figures(runs, load, most, name), strict=True
                )
            ]
            rows.append(
                (
                    f"{who}, {words}",
                    f"≤ {COST_RATIO_MAX}",
                    spread(ratios, 2),
                    verdict(median(ratios), at_most=COST_RATIO_MAX),
                )
            )
    return Table(
        f"Cost of a request at {most} replicas over that at {least}, within a round",
        ("cost", "goal", "median (range) of the rounds", "verdict"),
        rows,
    )


def rest_table(runs: Sequence[Run]) -> Table:
    """What a second takes while nobody asks."""
    rows = [
        (
            str(replicas),
            spread(figures(runs, "rest", replicas, "gateway_ms_per_s"), 1),
            spread(figures(runs, "rest", replicas, "flow_ms_per_s"), 1),
        )
        for replicas in numbers(runs)
    ]
    return Table(
        "A second at rest by the number of replicas",
        ("replicas", "gateway (CPU ms)", "flow Redis (CPU ms)"),
        rows,
        notes=("left out of what a request costs; records are written and read once a second",),
    )


def numbers(runs: Sequence[Run]) -> list[int]:
    """Every number of replicas that was measured, ascending."""
    return sorted({int(run["replicas"]) for run in runs if run["kind"] == "rest"})


def figures(runs: Sequence[Run], kind: str, replicas: int, name: str) -> list[float]:
    """One figure of all runs of a kind and number of replicas, in the order of the rounds."""
    chosen = [run for run in runs if (run["kind"], run.get("replicas")) == (kind, replicas)]
    return [float(run[name]) for run in sorted(chosen, key=lambda run: int(run["round"]))]
