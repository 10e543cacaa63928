import pytest

from loadtests.stack.floodgate_process import first_code


def test_the_code_is_found_in_a_list_and_in_an_object() -> None:
    assert first_code([{"code": "fgi-A"}, {"code": "fgi-B"}]) == "fgi-A"
    assert first_code({"invites": [{"code": "fgi-A"}]}) == "fgi-A"


@pytest.mark.parametrize("printed", [[], {"invites": []}, [{"plan": "free"}]])
def test_no_code_is_an_error(printed: object) -> None:
    with pytest.raises(LookupError):
        first_code(printed)
