import pytest

from serving.flow.demand import Demand, parse_demand


def test_the_record_of_an_earlier_version_says_nothing_of_who_is_held_back() -> None:
    text = b'{"version":1,"waiting":3,"oldest_wait_s":2.5,"tokens_owed":900,"slots_used":32}'
    assert parse_demand(text) == Demand(3, 2.5, 900, 32, held_back=0)


@pytest.mark.parametrize(
    "text", [None, b"", b"{}", b"null", b"[1]", b'{"version":2}', b'{"version":1,"waiting":"x"}']
)
def test_what_cannot_be_read_says_nothing(text: bytes | None) -> None:
    assert parse_demand(text) is None
