"""Locust against the engine simulator: every kind of caller, its log, and its page."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.accounts import Account, write_accounts
from loadtests.clients.http_probe import wait_until_ok
from loadtests.crowd.chat_record import ChatRecord
from loadtests.crowd.locust_run import LOCUSTFILE, run_locust
from loadtests.errors import ProcessFailedError
from loadtests.process import Process, free_port
from loadtests.stack.simulator_process import SimulatorProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ACCOUNTS = [Account(f"a{number}", "free", f"key-{number}") for number in range(3)]
SIZE = ["--output-tokens", "4", "--prompt-words", "4"]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path, profile="instant") as running:
        yield running


def run(
    simulator: SimulatorProcess, folder: Path, scenario: str, *options: str
) -> list[ChatRecord]:
    return run_locust(
        simulator.urls[0],
        ACCOUNTS,
        folder,
        scenario=scenario,
        run_s=10.0,
        options=["--slots", "4", "--duration-s", "4", *SIZE, *options],
    )


def test_a_spike_has_all_its_callers_and_every_chat_is_logged(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    records = run(
        simulator,
        tmp_path,
        "spike",
        *("--calm-s", "2", "--greedy-connections", "3", "--capacity-per-s", "2"),
    )
    whole = [record for record in records if record.outcome == "whole"]
    assert {record.user for record in whole} == {"patient", "greedy", "crowd"}
    assert {record.account for record in whole if record.user == "greedy"} == {"a0"}
    assert {record.account for record in whole if record.user != "greedy"} == {"a1", "a2"}
    assert all(record.tokens == 4 and record.ttft_s is not None for record in whole)
    # Every answer that the engine finished was read to its end, but for the last turn's.
    assert simulator.total("finished") >= len(whole) > 0
    assert not [record for record in records if record.outcome == "failed"]


def test_a_run_is_started_and_followed_on_locusts_page(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    keys, port = tmp_path / "keys.jsonl", free_port()
    write_accounts(keys, ACCOUNTS)
    argv = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", simulator.urls[0]]
    argv += ["--web-host", "127.0.0.1", "--web-port", str(port), "--keys-file", str(keys)]
    with (
        Process("locust", [*argv, *SIZE], log_path=tmp_path / "locust.log") as locust,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as page,
    ):
        wait_until_ok(f"http://127.0.0.1:{port}/", locust, 60.0)
        assert '"capacity_per_s"' in page.get("/").text, "our options stand on the form"
        for users in (2, 5):  # the second run has options of its own
            form = {"scenario": "closed", "slots": users}
            assert page.post("/swarm", data=form).json()["success"]
            names, now = set[str](), -1
            while now != users or "chat ttft" not in names:
                locust.wait_while_running(0.05)
                told = page.get("/stats/requests").json()
                names = {f"{entry['method']} {entry['name']}" for entry in told["stats"]}
                now = told["user_count"]
            assert page.post("/stop").json()["success"]


def test_impatient_callers_hang_up_on_an_engine_that_says_nothing(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.inject("stall")
    records = run(simulator, tmp_path, "impatient", "--patience-s", "0.2")
    ends = Counter((record.user, record.outcome) for record in records)
    assert ends["impatient", "hung_up"] > 0
    assert set(ends) == {("impatient", "hung_up"), ("patient", "hung_up")}
    while simulator.total("requests_open"):
        time.sleep(0.02)
    # Patience may also end before a request was sent.
    reached = [record for record in records if record.status]
    assert reached
    assert len(reached) <= simulator.total("aborted") <= len(records)


def test_an_undeclared_error_is_a_failure_and_is_tried_again_as_sdks_do(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.inject("error")
    records = run(simulator, tmp_path, "closed")
    ended = [record for record in records if record.outcome != "hung_up"]  # by the run's end
    assert {(record.outcome, record.status) for record in ended} == {("failed", 500)}
    assert {record.attempt for record in records} == {0, 1, 2}


def test_a_wrong_keys_file_ends_the_run_with_its_reason(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    with pytest.raises(ProcessFailedError, match="no accounts"):
        run_locust(simulator.urls[0], [], tmp_path, scenario="closed", run_s=1.0, options=[])
