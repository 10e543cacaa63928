import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.errors import InvalidRequest
from gateway.request_policy import RequestView, view_request

BY_NAME: dict[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
CHAT = BY_NAME["chat/completions"]


def test_model_and_stream_are_seen() -> None:
    assert view_request(CHAT, b'{"model":"m","stream":true}') == RequestView("m", True)
    assert view_request(CHAT, b'{"model":"m","stream":null}') == RequestView("m", False)
    assert view_request(CHAT, b'{"model":"m"}') == RequestView("m", False)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"{}", "missing_model"),
        (b'{"model":""}', "invalid_type"),
        (b'{"model":7}', "invalid_type"),
        (b'{"model":"m","stream":"yes"}', "invalid_type"),
        (b'{"model":"m","stream":1}', "invalid_type"),
    ],
)
def test_wrong_bodies_are_refused_by_name(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        view_request(CHAT, body)
    assert refusal.value.code == code


def test_embeddings_do_not_stream() -> None:
    with pytest.raises(InvalidRequest):
        view_request(BY_NAME["embeddings"], b'{"model":"m","stream":true}')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", True),
        ("background", True),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
    ],
)
def test_stored_responses_are_refused_clearly(field: str, value: object) -> None:
    body = orjson.dumps({"model": "m", "input": "hi", field: value})
    with pytest.raises(InvalidRequest) as refusal:
        view_request(BY_NAME["responses"], body)
    assert refusal.value.param == field
    assert refusal.value.code == "unsupported_parameter"


def test_responses_without_a_store_pass() -> None:
    body = orjson.dumps({"model": "m", "input": "hi", "store": False})
    assert view_request(BY_NAME["responses"], body).model == "m"


@given(st.binary(max_size=200))
def test_no_bytes_cause_anything_but_a_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        view_request(CHAT, body)
