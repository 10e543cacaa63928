import pytest

from loadtests.benches.engine_settings import COMPARED, read_engine_settings, require_alike
from loadtests.benches.whole_path import read_start
from loadtests.errors import MeasurementError

LOG = """\
… Redis, ledger and flow
✓ Redis, ledger and flow  0.4 s
… Engine with smollm2-135m-instruct
      3.1 s  started Ray
     33.6 s  replicas are ready
✓ Engine with smollm2-135m-instruct  36.0 s
✓ Gateway  0.1 s
✓ First token  0.6 s
First token after 38.2 s (warm start; 0.1 s of it set-up).
"""


def test_a_start_is_read_with_the_steps_of_serving() -> None:
    start = read_start(LOG)
    assert start.first_token_s == 38.2
    assert start.is_warm
    assert [(name, round(seconds, 1)) for name, seconds in start.phases] == [
        ("Redis, ledger and flow", 0.4),
        ("· started Ray", 3.1),
        ("· replicas are ready", 30.5),
        ("Engine with smollm2-135m-instruct", 36.0),
        ("Gateway", 0.1),
        ("First token", 0.6),
    ]


def test_a_cold_start_is_told_apart() -> None:
    assert not read_start(LOG.replace("warm start", "cold start")).is_warm


def test_a_start_without_a_first_token_is_no_measurement() -> None:
    with pytest.raises(MeasurementError, match="first token"):
        read_start("✗ Gateway  60.0 s\n")


def engine_log(**settings: str) -> str:
    values = {**dict.fromkeys(COMPARED, "None"), **settings}
    config = ", ".join(f"{name}={value}" for name, value in values.items())
    return f"INFO [core.py:123] Initializing a V1 LLM engine (v0.29.0) with config: {config}\n"


def test_the_last_engine_that_started_counts() -> None:
    log = engine_log(enforce_eager="True") + "INFO other\n" + engine_log(enforce_eager="False")
    assert read_engine_settings(log)["enforce_eager"] == "False"


def test_engines_that_differ_are_not_compared() -> None:
    one = read_engine_settings(engine_log(max_seq_len="8192"))
    require_alike(one, dict(one))
    with pytest.raises(MeasurementError, match="max_seq_len: 8192 and 2048"):
        require_alike(one, {**one, "max_seq_len": "2048"})


@pytest.mark.parametrize("log", ["", "INFO nothing\n", engine_log().replace("dtype=", "type=")])
def test_an_engine_that_does_not_tell_is_no_measurement(log: str) -> None:
    with pytest.raises(MeasurementError, match="does not tell"):
        read_engine_settings(log)
