import json
from pathlib import Path

import pytest

from loadtests.benches.waitlist_load import OpenLoopLoad, require_answered, write_joins
from loadtests.errors import MeasurementError


def test_everybody_who_joins_has_an_address_of_25_characters_and_their_own(tmp_path: Path) -> None:
    file = tmp_path / "joins.jsonl"
    write_joins(file, "join00", 300)
    emails = [json.loads(line)["email"] for line in file.read_text().splitlines()]
    assert len(set(emails)) == 300
    assert {len(email) for email in emails} == {25}


def test_a_load_has_a_body_for_every_request_also_of_the_warm_up() -> None:
    assert OpenLoopLoad(500, run_s=20, warm_up_s=2).requests >= 11_000


def test_a_refused_caller_spoils_the_figures() -> None:
    answered = {"failed": 0, "unavailable": 0, "sent": 5, "first_failure": ""}
    assert require_answered(answered) is answered
    with pytest.raises(MeasurementError, match="2 of 5 not answered: refused"):
        require_answered(answered | {"failed": 2, "unavailable": 2, "first_failure": "refused"})


@pytest.mark.parametrize(
    ("failed", "unavailable", "is_spoilt"), [(2, 2, False), (3, 3, True), (2, 1, True)]
)
def test_a_share_may_be_told_to_come_again_and_nothing_else(
    failed: int, unavailable: int, is_spoilt: bool
) -> None:
    figures = {"failed": failed, "unavailable": unavailable, "sent": 10, "first_failure": "why"}
    if not is_spoilt:
        assert require_answered(figures, 0.2) is figures
        return
    with pytest.raises(MeasurementError, match=f"{failed} of 10 not answered: why"):
        require_answered(figures, 0.2)
