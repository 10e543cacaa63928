"""The engine bench's runs as tables: both targets side by side, and their ratios. Pure."""

from collections.abc import Sequence
from typing import Any

from loadtests.benches.engine_plan import Answers
from loadtests.percentiles import median, percentile
from loadtests.results.report import Recorder, Table, spread, verdict

TOKENS_RATIO_MIN = 0.95
ADDED_TTFT_P50_MS_MAX = 10.0
ADDED_TTFT_CONCURRENCIES = (1, 8)
FIRST_TOKEN_S_MAX = 75.0
STANDING_TOKENS_RATIO_MIN = 0.97
STANDING_RUNNING_SHARE_MIN = 0.95

Run = dict[str, Any]


def tables(recorder: Recorder) -> list[Table]:
    """Every table of the bench."""
    bare, whole = recorder.facts["targets"]
    lines = [run for run in recorder.runs if "answers" in run]
    levels = [run for run in recorder.runs if "answers" not in run]
    return [
        throughput_table(levels, bare, whole),
        first_token_table(levels, bare, whole),
        standing_line_table(levels, lines, bare, whole),
        start_table(recorder.facts["start"]),
    ]


def throughput_table(runs: Sequence[Run], bare: str, whole: str) -> Table:
    """Tokens/s of both, and the median over rounds of their ratio."""
    rows = []
    for concurrency in concurrencies(runs):
        base = figures(runs, bare, concurrency, "tokens_per_s")
        own = figures(runs, whole, concurrency, "tokens_per_s")
        ratios = _ratios(own, base)
        rows.append(
            (
                str(concurrency),
                spread(base),
                spread(own),
                spread(ratios, 3),
                f"≥ {TOKENS_RATIO_MIN}",
                verdict(median(ratios), at_least=TOKENS_RATIO_MIN),
            )
        )
    return Table(
        "Whole path against bare vLLM, tokens/s: median (range) of the rounds",
        ("concurrency", bare, whole, "ratio within a round", "goal", "verdict"),
        rows,
    )


def first_token_table(runs: Sequence[Run], bare: str, whole: str) -> Table:
    """Time to first token of both, over the chats of all rounds together."""
    rows = []
    for concurrency in concurrencies(runs):
        base, own = (all_ttft_ms(runs, name, concurrency) for name in (bare, whole))
        added_ms = percentile(own, 50) - percentile(base, 50)
        is_goal = concurrency in ADDED_TTFT_CONCURRENCIES
        rows.append(
            (
                str(concurrency),
                f"{percentile(base, 50):.1f} / {percentile(base, 99):.1f}",
                f"{percentile(own, 50):.1f} / {percentile(own, 99):.1f}",
                f"{added_ms:+.1f}",
                f"≤ {ADDED_TTFT_P50_MS_MAX:.0f}" if is_goal else "none",
                verdict(added_ms, at_most=ADDED_TTFT_P50_MS_MAX) if is_goal else "",
            )
        )
    return Table(
        "Whole path against bare vLLM, time to first token (ms): p50 / p99 of all chats",
        ("concurrency", bare, whole, "added at p50", "goal", "verdict"),
        rows,
    )


def standing_line_table(
    levels: Sequence[Run], lines: Sequence[Run], bare: str, whole: str
) -> Table:
    """Both engines behind a line, against bare vLLM at the concurrency that suits it best."""
    best = max(
        concurrencies(levels),
        key=lambda level: median(figures(levels, bare, level, "tokens_per_s")),
    )
    at_best = figures(levels, bare, best, "tokens_per_s")
    (standing,) = concurrencies(lines)
    rows = []
    for answers in Answers:
        chosen = [run for run in lines if run["answers"] == answers]
        own, base = (figures(chosen, name, standing, "tokens_per_s") for name in (whole, bare))
        shares = {name: running_shares(chosen, name, best) for name in (whole, bare)}
        preemptions = figures(chosen, whole, standing, "preemptions")
        if answers is Answers.ALIKE:
            rows.append(
                _goal_row(
                    answers,
                    f"tokens/s over those of bare vLLM at {best} chats",
                    _ratios(own, at_best),
                    STANDING_TOKENS_RATIO_MIN,
                )
            )
        rows += [
            _goal_row(
                answers,
                "tokens/s over those of bare vLLM with the same line",
                _ratios(own, base),
                STANDING_TOKENS_RATIO_MIN,
            ),
            _goal_row(
                answers,
                f"running requests over {best}, mean",
                shares[whole],
                STANDING_RUNNING_SHARE_MIN,
            ),
            (answers.value, "the same of bare vLLM", "", spread(shares[bare], 3), ""),
            (answers.value, "preemptions", "≈ 0", spread(preemptions, 0), ""),
        ]
    return Table(
        f"Under a standing line: {standing} chats at once; bare vLLM at its best, {best}",
        ("answers", "figure", "goal", "median (range) of the rounds", "verdict"),
        rows,
    )


def running_shares(runs: Sequence[Run], target: str, full: int) -> list[float]:
    """What a target's engine ran on average, of what would have filled it, for each run."""
    chosen = [run for run in runs if run["target"] == target]
    return [sum(run["running"]) / len(run["running"]) / full for run in chosen]


def _ratios(own: Sequence[float], base: Sequence[float]) -> list[float]:
    """Within each round."""
    return [mine / bares for mine, bares in zip(own, base, strict=True)]


def _goal_row(
    answers: Answers, figure: str, values: Sequence[float], at_least: float
) -> tuple[str, ...]:
    told = verdict(median(values), at_least=at_least)
    return (answers.value, figure, f"≥ {at_least}", spread(values, 3), told)


def start_table(start: dict[str, Any]) -> Table:
    """Where the seconds of a start go; only a warm one has a goal."""
    is_warm, first_token_s = start["is_warm"], start["first_token_s"]
    rows = [(name, f"{seconds:.1f}", "", "") for name, seconds in start["phases"]]
    rows.append(
        (
            "to the first token, in all",
            f"{first_token_s:.1f}",
            f"≤ {FIRST_TOKEN_S_MAX:.0f}" if is_warm else "none",
            verdict(first_token_s, at_most=FIRST_TOKEN_S_MAX) if is_warm else "",
        )
    )
    kind = "Warm" if is_warm else "Cold"
    return Table(f"{kind} start of `floodgate up`", ("phase", "seconds", "goal", "verdict"), rows)


def concurrencies(runs: Sequence[Run]) -> list[int]:
    """Every concurrency that was measured, ascending."""
    return sorted({int(run["concurrency"]) for run in runs})


def figures(runs: Sequence[Run], target: str, concurrency: int, name: str) -> list[float]:
    """One figure of a target's runs at a concurrency, in the order of the rounds."""
    chosen = [run for run in runs if (run["target"], run["concurrency"]) == (target, concurrency)]
    return [float(run[name]) for run in sorted(chosen, key=lambda run: int(run["round"]))]


def all_ttft_ms(runs: Sequence[Run], target: str, concurrency: int) -> list[float]:
    """Every time to first token of a target at a concurrency, ascending."""
    return sorted(
        float(value)
        for run in runs
        if (run["target"], run["concurrency"]) == (target, concurrency)
        for value in run["ttft_ms"]
    )
