"""Tables of the waitlist bench, from its runs."""

from collections.abc import Sequence
from typing import Any

from loadtests.percentiles import median
from loadtests.results.report import Recorder, Table, spread, verdict

BYTES_EACH_MAX = 450
JOIN_P99_MS_MAX = 6.0
STATUS_P99_MS_MAX = 3.0
RELEASE_S_MAX = 5.0
STALL_MS_MAX = 20.0
HOW = {
    "nobody": "nobody is let in",
    "command": "`floodgate waitlist release`",
    "api": "`POST /admin/releases`",
    "pending": "the command, past {pending:,} pending at the head",
}


def tables(recorder: Recorder) -> list[Table]:
    """Cost, rates, releases."""
    runs, plan = recorder.runs, recorder.facts["waitlist_plan"]
    return [
        growth_table(runs, recorder.facts["redis_version"]),
        rates_table(runs, plan, recorder.facts["file_system"]),
        releases_table(runs, plan),
    ]


def growth_table(runs: Sequence[dict[str, Any]], redis_version: str) -> Table:
    """What a waiting person costs as the line grows."""
    growth = _of(runs, "growth")
    joins = [run["bytes_each"] for run in _of(runs, "rate") if run["state"] == "join"]
    last = growth[-1]
    rows = [
        (
            f"{run['people']:,}",
            f"{run['imported'] / run['import_s']:,.0f} ({run['import_s']:.1f} s)",
            f"{run['bytes_each']:.0f}",
            f"{run['row_each']:.0f}",
            f"{run['line_each']:.0f}",
            f"{run['index_each']:.0f}",
            f"≤ {BYTES_EACH_MAX}" if run is last else "none",
            verdict(run["bytes_each"], at_most=BYTES_EACH_MAX) if run is last else "",
        )
        for run in growth
    ]
    return Table(
        f"What a waiting person costs (bytes; Redis {redis_version})",
        ("people", "imported / s", "each", "row", "line", "address index", "goal", "verdict"),
        rows,
        notes=(
            f"Redis counts {last['row_counted_each']:.0f} bytes for a row with its key; the rest "
            "of its column is a slot in the table of keys",
            f"the audit of {len(growth)} imports: {last['audit_bytes']:,.0f} bytes altogether",
            # The median: Redis's tables of keys grow and shrink by megabytes at a time.
            f"joined over HTTP: {median(joins):.0f} bytes each on the first day, the count of the "
            "mailbox among them",
        ),
    )


def rates_table(runs: Sequence[dict[str, Any]], plan: dict[str, Any], file_system: str) -> Table:
    """Latencies of joins and statuses, and the disk's own."""
    rows = []
    goals = {"join": JOIN_P99_MS_MAX, "status": STATUS_P99_MS_MAX}
    for call, goal_ms in goals.items():
        found = [run for run in _of(runs, "rate") if run["state"] == call]
        p99_ms = [run["latency_p99_ms"] for run in found]
        rows.append(
            (
                call,
                spread([run["latency_p50_ms"] for run in found], 2),
                spread(p99_ms, 2),
                f"≤ {goal_ms:g}",
                verdict(median(p99_ms), at_most=goal_ms),
                spread([run["latency_max_ms"] for run in found], 1),
                spread([run["script_us"] for run in found]),
                spread([run["gateway_us"] for run in found]),
            )
        )
    disk = _of(runs, "disk")
    rows.append(
        (
            f"disk ({file_system}): write 300 bytes, fdatasync",
            spread([run["p50_ms"] for run in disk], 2),
            spread([run["p99_ms"] for run in disk], 2),
            *("none", ""),
            spread([run["max_ms"] for run in disk], 1),
            *("", ""),
        )
    )
    return Table(
        f"At {plan['rate_per_s']:g}/s with {plan['people'][-1]:,} waiting (ms)",
        (
            *("call", "p50", "p99", "goal p99", "verdict", "longest"),
            *("ledger held by a script (µs)", "gateway (CPU µs)"),
        ),
        rows,
    )


def releases_table(runs: Sequence[dict[str, Any]], plan: dict[str, Any]) -> Table:
    """How long letting people in takes, and the longest that anybody waited meanwhile."""
    rows = []
    for how, words in HOW.items():
        found = [run for run in _of(runs, "release") if run["state"] == how]
        pings_ms = [run["pings"]["max_ms"] for run in found]
        statuses_ms = [run["statuses"]["latency_max_ms"] for run in found]
        seconds = [run["seconds"] for run in found if run["seconds"] is not None]
        longest_ms = max(*pings_ms, *statuses_ms)
        rows.append(
            (
                words.format(pending=plan["pending"]),
                spread(seconds, 2) if seconds else "",
                verdict(max(seconds), at_most=RELEASE_S_MAX) if seconds else "",
                spread([run["pings"]["p99_ms"] for run in found], 2),
                spread(pings_ms, 1),
                spread(statuses_ms, 1),
                verdict(longest_ms, at_most=STALL_MS_MAX) if seconds else "",
            )
        )
    audit = [run["audit_bytes"] for run in _of(runs, "release") if run["state"] == "command"]
    return Table(
        f"Letting {plan['released']:,} in with {plan['people'][-1]:,} waiting",
        (
            *("how", f"seconds (goal ≤ {RELEASE_S_MAX:g})", "verdict", "ping p99 (ms)"),
            *("longest ping (ms)", "longest status (ms)"),
            f"both ≤ {STALL_MS_MAX:g} in all rounds",
        ),
        rows,
        notes=(
            f"the audit grew by {spread([size / plan['released'] for size in audit])} bytes for "
            "each person let in",
        ),
    )


def _of(runs: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["kind"] == kind]
