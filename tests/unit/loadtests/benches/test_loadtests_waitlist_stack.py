import csv
from pathlib import Path

import pytest

from loadtests.benches.waitlist_stack import require_released, write_people
from loadtests.errors import MeasurementError


def test_files_of_people_go_on_where_the_one_before_ended(tmp_path: Path) -> None:
    emails = []
    for first, count in ((0, 3), (3, 4)):
        write_people(tmp_path / "people.csv", first, count)
        with (tmp_path / "people.csv").open(newline="") as file:
            emails += [row["email"] for row in csv.DictReader(file)]
    assert len(set(emails)) == len(emails) == 7
    assert {len(email) for email in emails} == {25}


@pytest.mark.parametrize(
    "batch", [{"released": 9, "state": "done"}, {"released": 10, "state": "open"}, {}]
)
def test_a_batch_that_let_in_fewer_is_no_figure(batch: dict[str, object]) -> None:
    require_released({"released": 10, "state": "done"}, 10)
    with pytest.raises(MeasurementError, match="10 people"):
        require_released(batch, 10)
