import orjson
import pytest

from gateway.error_shapes import ErrorShape, error_body, error_event
from gateway.errors import ApiError, RateLimited, Unavailable


def test_openai_errors_have_the_four_fields() -> None:
    body = orjson.loads(error_body(RateLimited("slow down"), ErrorShape.OPENAI, "req_1"))
    assert body == {
        "error": {
            "message": "slow down",
            "type": "requests",
            "param": None,
            "code": "rate_limit_requests",
        }
    }


def test_messages_errors_have_anthropics_shape() -> None:
    body = orjson.loads(error_body(Unavailable("full"), ErrorShape.ANTHROPIC, "req_1"))
    assert body == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "full", "code": "no_capacity"},
        "request_id": "req_1",
    }


@pytest.mark.parametrize("shape", list(ErrorShape))
def test_an_error_event_ends_whatever_half_event_came_before(shape: ErrorShape) -> None:
    stream = b'data: {"choices":[{"delta":{"con' + error_event(ApiError("gone"), shape, "req_1")
    events = stream.split(b"\n\n")
    last = events[-2].split(b"\n")[-1]
    assert last.startswith(b"data: ")
    assert b"gone" in orjson.dumps(orjson.loads(last[6:]))
    assert stream.endswith(b"\n\n")


def test_responses_streams_end_with_an_error_event() -> None:
    event = error_event(Unavailable("full", code="engine_gone"), ErrorShape.RESPONSES, "req_1")
    assert b"event: error\n" in event
    data = orjson.loads(event.split(b"data: ")[1])
    assert (data["type"], data["code"], data["message"]) == ("error", "engine_gone", "full")
