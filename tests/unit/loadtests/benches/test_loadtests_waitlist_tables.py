from pathlib import Path

import pytest

from loadtests.benches.waitlist_tables import HOW, tables
from loadtests.probes.ledger_gauge import PeopleMemory, ScriptUse
from loadtests.probes.machine import Machine
from loadtests.results.report import Recorder

PEOPLE = (10, 20)
PLAN = {"people": PEOPLE, "rate_per_s": 500.0, "released": 5, "pending": 3}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    made = Recorder("waitlist", tmp_path, machine=Machine("Some CPU", 2, 24.0, "6.1", "3.11.7"))
    made.fact("waitlist_plan", PLAN)
    made.fact("redis_version", "7.0.15")
    made.fact("file_system", "ext4")
    return made


def add_growth(recorder: Recorder, *bytes_each: float) -> None:
    for people, each in zip(PEOPLE, bytes_each, strict=True):
        recorder.add(
            kind="growth",
            people=people,
            imported=10,
            import_s=2.0,
            bytes_each=each,
            row_each=200.0,
            row_counted_each=150.0,
            line_each=100.0,
            index_each=50.0,
            audit_bytes=1_000.0,
        )


def add_rates(recorder: Recorder, **p99_ms: float) -> None:
    recorder.add(kind="disk", p50_ms=0.1, p99_ms=1.0, max_ms=9.0)
    for call, value in p99_ms.items():
        recorder.add(
            kind="rate",
            state=call,
            latency_p50_ms=value / 2,
            latency_p99_ms=value,
            latency_max_ms=3 * value,
            script_us=50.0,
            gateway_us=600.0,
            bytes_each=600.0,
        )


def add_release(
    recorder: Recorder, how: str, seconds: float | None, ping_ms: float, status_ms: float
) -> None:
    recorder.add(
        kind="release",
        state=how,
        seconds=seconds,
        pings={"p99_ms": 1.0, "max_ms": ping_ms},
        statuses={"latency_max_ms": status_ms},
        audit_bytes=15.0,
    )


def test_the_waitlist_is_held_against_its_goals(recorder: Recorder) -> None:
    add_growth(recorder, 460.0, 450.0)
    for join_ms, status_ms in ((5.0, 3.1), (9.0, 2.0), (6.0, 3.5)):
        add_rates(recorder, join=join_ms, status=status_ms)
    for how in HOW:
        add_release(recorder, how, None if how == "nobody" else 4.0, 9.0, 12.0)
    growth, rates, releases = tables(recorder)
    # Few people cost more: the goal is for the whole line.
    assert [row[-2:] for row in growth.rows] == [("none", ""), ("≤ 450", "met")]
    assert [(row[0], row[2], row[4]) for row in rates.rows[:2]] == [
        ("join", "6.00 (5.00 to 9.00)", "met"),
        ("status", "3.10 (2.00 to 3.50)", "missed"),
    ]
    assert [row[2] for row in releases.rows] == ["", "met", "met", "met"]
    assert [row[-1] for row in releases.rows] == ["", "met", "met", "met"]
    assert "past 3 pending" in releases.rows[-1][0]
    assert "3 bytes for each person" in releases.notes[0]


@pytest.mark.parametrize(("ping_ms", "status_ms"), [(20.1, 1.0), (1.0, 20.1)])
def test_one_long_wait_of_one_round_misses_the_goal(
    recorder: Recorder, ping_ms: float, status_ms: float
) -> None:
    add_growth(recorder, 400.0, 400.0)
    add_rates(recorder, join=1.0, status=1.0)
    for how in HOW:
        add_release(recorder, how, 1.0, 2.0, 2.0)
    add_release(recorder, "api", 5.1, ping_ms, status_ms)
    rows = {row[0]: row for row in tables(recorder)[2].rows}
    assert (rows[HOW["api"]][2], rows[HOW["api"]][-1]) == ("missed", "missed")
    assert (rows[HOW["command"]][2], rows[HOW["command"]][-1]) == ("met", "met")


def test_a_row_is_what_line_and_index_leave() -> None:
    memory = PeopleMemory(
        people=10,
        total_bytes=3_500,
        line_bytes=1_000.0,
        index_bytes=500.0,
        row_counted_bytes=1_500.0,
        audit_bytes=77.0,
    )
    assert memory.each(memory.row_bytes) == 200.0
    assert memory.each(memory.total_bytes) == 350.0


def test_time_that_scripts_held_the_ledger_is_of_those_in_between() -> None:
    assert ScriptUse(30, 900).since(ScriptUse(10, 100)).us_each == 40.0
    assert ScriptUse(10, 100).since(ScriptUse(10, 100)).us_each == 0.0
