from pathlib import Path

import pytest

from loadtests.benches import engine_tables, gateway_tables
from loadtests.clients.canned import WORKLOADS
from loadtests.probes.machine import Machine
from loadtests.results.report import Recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder("gateway", tmp_path, machine=Machine("Some CPU", 2, 24.0, "6.1", "3.11.7"))


def add_gateway_runs(recorder: Recorder, target: str, rate: float, latency_ms: float) -> None:
    for workload in WORKLOADS:
        recorder.add(
            kind="saturation",
            target=target,
            workload=workload,
            requests_per_s=rate,
            failures=0,
            cpu_us_per_request=200.0,
            proxy_core_busy=1.0,
            load_core_busy=0.5,
            rss_bytes=80 * 2**20,
        )
        recorder.add(
            kind="open_loop",
            target=target,
            workload=workload,
            rate_per_s=rate / 2,
            latency_p50_ms=latency_ms,
            latency_p99_ms=3 * latency_ms,
            latency_max_ms=9 * latency_ms,
            failed=0,
        )


def test_the_gateway_is_held_against_its_goals(recorder: Recorder) -> None:
    add_gateway_runs(recorder, "warm-up", 1.0, 1.0)
    recorder.fact("first_counted_run", len(recorder.runs))
    recorder.fact("targets", {"bare": "none", "ours": "key"})
    recorder.fact("memory_mib", [(0, 80.0), (10_000, 81.0)])
    for _ in range(3):
        add_gateway_runs(recorder, "bare", 50_000.0, 0.2)
        add_gateway_runs(recorder, "ours", 4_000.0, 1.2)
        add_gateway_runs(recorder, "plain", 6_000.0, 1.0)
    goals, shares, saturation, latency = gateway_tables.tables(recorder, "ours", "bare", "plain")
    verdicts = {row[0]: (row[2], row[3]) for row in goals.rows}
    assert verdicts["chats/s (goal: key and rate)"] == ("4,000 (4,000 to 4,000)", "missed")
    assert verdicts["chats/s (goal: all of admission)"][1] == "met"
    assert verdicts["streams/s (goal: key and rate)"][1] == "met"
    assert [row[1:] for row in shares.rows[:2]] == [
        ("≥ 0.75", "0.67 (0.67 to 0.67)", "missed"),
        ("≥ 0.58", "0.67 (0.67 to 0.67)", "met"),
    ]
    assert verdicts["added latency p50, chat, at half rate (ms)"] == ("1.00 (1.00 to 1.00)", "met")
    assert verdicts["added latency p99, stream, at half rate (ms)"][1] == "met"
    assert verdicts["worker memory at start (MiB)"] == ("80", "met")
    assert [row[0] for row in saturation.rows] == ["bare", "ours"]
    assert len(latency.rows) == 4


def test_tokens_are_compared_within_a_round(recorder: Recorder) -> None:
    recorder.fact("targets", ["bare", "whole"])
    phases = [("Engine", 61.4)]
    recorder.fact("start", {"phases": phases, "first_token_s": 80.0, "is_warm": True})
    # The machine halves its speed in the second round: the ratio does not care.
    for number, speed in enumerate((100.0, 50.0, 100.0)):
        for target, share, ttft_ms in (("whole", 0.96, 52.0), ("bare", 1.0, 40.0)):
            recorder.add(
                target=target,
                round=number,
                concurrency=8,
                tokens_per_s=share * speed,
                ttft_ms=[ttft_ms, ttft_ms + 1],
            )
        for answers in ("alike", "mixed"):
            line: dict[str, object] = {
                "concurrency": 64,
                "answers": answers,
                "preemptions": 0,
                "ttft_ms": [900.0],
            }
            own = {**line, "running": [32, 31, 30], "tokens_per_s": 2.45 * speed}
            recorder.add(target="whole", round=number, **own)
            others = {**line, "running": [30, 29, 28], "tokens_per_s": 2.56 * speed}
            recorder.add(target="bare", round=number, **others)
        at_best = {"concurrency": 32, "ttft_ms": [1.0]}
        recorder.add(target="bare", round=number, tokens_per_s=2.5 * speed, **at_best)
        recorder.add(target="whole", round=number, tokens_per_s=1.0, **at_best)
    throughput, first_token, standing, start = engine_tables.tables(recorder)
    assert throughput.rows[0][3] == "0.960 (0.960 to 0.960)"
    assert throughput.rows[0][5] == "met"
    assert first_token.rows[0][3] == "+12.0"
    assert first_token.rows[0][5] == "missed"
    assert [row[0] for row in throughput.rows] == ["8", "32"], "the lines have their own table"
    assert "64 chats at once" in standing.title
    beside_a_line = [
        ("0.957 (0.957 to 0.957)", "missed"),
        ("0.969 (0.969 to 0.969)", "met"),
        ("0.906 (0.906 to 0.906)", ""),
        ("0 (0 to 0)", ""),
    ]
    beside_best = ("0.980 (0.980 to 0.980)", "met")
    assert [row[3:] for row in standing.rows] == [beside_best, *beside_a_line, *beside_a_line]
    assert start.rows[-1][3] == "missed"


def test_a_cold_start_has_no_goal() -> None:
    start = {"phases": [("Engine", 61.4)], "first_token_s": 180.0, "is_warm": False}
    table = engine_tables.start_table(start)
    assert table.title.startswith("Cold")
    assert table.rows[-1][2:] == ("none", "")
