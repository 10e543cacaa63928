"""The waitlist bench, tiny, on real servers: every part of it, and figures that can be true."""

from pathlib import Path
from threading import Timer
from urllib.parse import urlsplit

import pytest
from redis import Redis

from loadtests.benches.waitlist_bench import WaitlistPlan, run_waitlist_bench
from loadtests.benches.waitlist_load import OpenLoopLoad, WaitlistLoad
from loadtests.benches.waitlist_stack import WaitlistStack
from loadtests.errors import MeasurementError
from loadtests.probes.ledger_probe import LedgerProbe
from loadtests.results.report import Recorder
from loadtests.stack.redis_pair import RedisPair

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

TINY = WaitlistPlan(
    people=(300, 1_000),
    tickets=20,
    rate_per_s=40.0,
    run_s=1.0,
    rounds=1,
    released=100,
    watch_s=20.0,  # a command that releases takes up to ten on a busy machine
    watchers_per_s=20.0,
    pending=40,
    disk_writes=20,
    unavailable_share_max=0.2,
)


def test_every_part_is_measured(tmp_path: Path) -> None:
    recorder = Recorder("waitlist", tmp_path)
    growth, rates, releases = run_waitlist_bench(TINY, recorder)
    assert [row[0] for row in growth.rows] == ["300", "1,000"]
    by_state = {run["state"]: run for run in recorder.runs if "state" in run}
    assert set(by_state) == {"join", "status", "nobody", "command", "api", "pending"}
    # Everybody who was imported or joined, less those let in, stands in line.
    joined = TINY.people[-1] + TINY.tickets + OpenLoopLoad(TINY.rate_per_s, TINY.run_s).requests
    assert joined - 1 <= by_state["nobody"]["in_line"] <= joined
    assert by_state["api"]["in_line"] == by_state["nobody"]["in_line"] - TINY.released
    # Pending people were there first, and nobody of them was let in.
    assert by_state["pending"]["in_line"] == TINY.people[-1] + 100 + TINY.pending
    for run in recorder.runs:
        if run["kind"] == "growth":
            assert run["row_counted_each"] > 0
            assert run["line_each"] + run["index_each"] < run["bytes_each"]
        if run["kind"] == "release":
            assert run["pings"]["pings"] == TINY.watch_s * 1000
            assert run["pings"]["unanswered"] == 0
            assert run["statuses"]["failed"] == run["statuses"]["unavailable"]
    assert len(rates.rows) == 3
    assert len(releases.rows) == 4


def test_refused_statuses_are_no_figures(tmp_path: Path) -> None:
    with WaitlistStack(tmp_path) as stack:
        load = WaitlistLoad(stack, ["fgt-nobody"])
        with pytest.raises(MeasurementError, match=r"not answered: refused.*401"):
            load.statuses(OpenLoopLoad(20.0, 1.0, warm_up_s=0.0))


def test_a_ping_is_charged_for_what_holds_the_server(tmp_path: Path) -> None:
    with RedisPair(tmp_path) as redis:
        port = urlsplit(redis.ledger_url).port or 0
        with Redis(port=port) as client:
            probe = LedgerProbe(("127.0.0.1", port), 0.001)
            client.ping()
            holding = Timer(0.2, client.client_pause, (300,))
            holding.start()
            found = probe.run(2.0)
            holding.join()
    assert found.unanswered == 0
    assert found.pings == 2_000
    # All of the 300 pings that came meanwhile waited, the first one longest.
    assert found.max_ms >= 250
    assert found.p50_ms < found.max_ms
