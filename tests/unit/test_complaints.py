"""tests/complaints.md names tests; each must be there."""

import re
from pathlib import Path

_TESTS = Path(__file__).parents[1]


def test_each_complaint_has_tests_that_are_there() -> None:
    rows = [
        row
        for row in (_TESTS / "complaints.md").read_text().splitlines()
        if re.match(r"\| \d", row)
    ]
    assert len(rows) == 15
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^(async )?def {test}\(", (_TESTS / file).read_text(), re.M), test
