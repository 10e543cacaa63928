import pytest

from loadtests.clients.wrk import parse_wrk_output
from loadtests.errors import MeasurementError

OUTPUT = """\
Running 4s test @ http://127.0.0.1:8000/v1/chat/completions
  1 threads and 32 connections
Requests/sec:  14195.45
WRK {"duration_us":4000000,"requests":56000,"bytes":35840000,\
"errors":{"connect":0,"read":1,"write":0,"status":2,"timeout":3},\
"latency_us":{"p50":2116,"p90":3000,"p99":4405,"max":9000}}
"""


def test_the_figures_are_read_with_their_units() -> None:
    result = parse_wrk_output(OUTPUT)
    assert result.requests_per_s == 14_000
    assert result.bytes_per_request == 640
    assert result.failures == 6
    assert result.latency_p50_ms == pytest.approx(2.116)
    assert result.latency_p99_ms == pytest.approx(4.405)


def test_output_without_figures_is_no_measurement() -> None:
    with pytest.raises(MeasurementError, match="no figures"):
        parse_wrk_output("unable to connect to 127.0.0.1:8000 Connection refused\n")


def test_a_run_without_answers_is_no_measurement() -> None:
    nothing = OUTPUT.replace('"requests":56000', '"requests":0')
    with pytest.raises(MeasurementError, match="no answer"):
        parse_wrk_output(nothing)
