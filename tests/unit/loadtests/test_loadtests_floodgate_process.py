import pytest

from loadtests.floodgate_process import first_code, read_phases


def test_the_code_is_found_in_a_list_and_in_an_object() -> None:
    assert first_code([{"code": "fgi-A"}, {"code": "fgi-B"}]) == "fgi-A"
    assert first_code({"invites": [{"code": "fgi-A"}]}) == "fgi-A"


@pytest.mark.parametrize("printed", [[], {"invites": []}, [{"plan": "free"}]])
def test_no_code_is_an_error(printed: object) -> None:
    with pytest.raises(LookupError):
        first_code(printed)


def test_phases_are_read_in_order() -> None:
    log = "Starting\n✓ Redis ready    0.3 s\n✓ Engine ready  31.4 s\nhttp://127.0.0.1:8000\n"
    assert read_phases(log) == [("Redis ready", 0.3), ("Engine ready", 31.4)]
