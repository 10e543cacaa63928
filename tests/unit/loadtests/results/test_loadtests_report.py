import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loadtests.probes.machine import Machine
from loadtests.results.report import Recorder, Table, add_results_option, spread, verdict


def test_a_table_as_markdown() -> None:
    table = Table("Rates", ("proxy", "a|b"), [("ours", "1")], notes=["quiet machine"])
    assert table.to_markdown().splitlines() == [
        "**Rates**",
        "",
        "| proxy | a\\|b |",
        "| --- | --- |",
        "| ours | 1 |",
        "",
        "- quiet machine",
    ]


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table("Rates", ("proxy", "requests/s"), [("ours",)])


def test_result_files_go_where_the_command_line_says() -> None:
    parser = argparse.ArgumentParser()
    add_results_option(parser)
    assert parser.parse_args([]).results == Path("build/bench")
    assert parser.parse_args(["--results", "/tmp/r"]).results == Path("/tmp/r")


def test_spread_of_runs() -> None:
    assert spread([5012.4, 4950.0, 5100.0]) == "5,012 (4,950 to 5,100)"
    assert spread([1.234], 2) == "1.23"
    assert spread([]) == "not measured"


def test_verdict_against_either_bound() -> None:
    assert verdict(4500, at_least=4500) == "met"
    assert verdict(4499, at_least=4500) == "missed"
    assert verdict(2.0, at_most=2) == "met"
    assert verdict(2.1, at_most=2) == "missed"


def test_the_result_file_holds_every_run_at_once(tmp_path: Path) -> None:
    recorder = Recorder(
        "gateway",
        tmp_path / "results",
        started_at=datetime(2026, 11, 23, 12, 30, tzinfo=UTC),
        machine=Machine("Some CPU", 2, 24.0, "6.1", "3.11.7"),
    )
    recorder.fact("targets", ["ours"])
    recorder.add(kind="saturation", requests_per_s=5.0)
    written = json.loads(recorder.path.read_text())
    assert recorder.path.name == "gateway-20261123T123000Z.json"
    assert written["started_at"] == "2026-11-23T12:30:00+00:00"
    assert written["machine"]["processor"] == "Some CPU"
    assert written["targets"] == ["ours"]
    assert written["runs"][0]["requests_per_s"] == 5.0
    assert len(written["runs"][0]["load_average_after"]) == 3


def test_a_caption_names_date_machine_command_and_file(tmp_path: Path) -> None:
    recorder = Recorder(
        "engine",
        tmp_path,
        started_at=datetime(2026, 11, 23, tzinfo=UTC),
        machine=Machine("Some CPU", 2, 23.5, "6.1", "3.11.7"),
    )
    caption = recorder.caption()
    for part in ("2026-11-23", "Some CPU, 2 cores, 24 GiB", "python -m", "engine-20261123T000000Z"):
        assert part in caption
