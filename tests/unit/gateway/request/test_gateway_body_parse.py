import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.request.body_parse import parse_object


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":01}',
        b'{"a":1}{"b":2}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":"\x00"}',
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b"[" * 50_000,
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":[{"b":{"c":1,"d":2,"c":3}}]}',
    ],
)
def test_what_is_no_strict_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_object(body)
    assert refusal.value.code == "invalid_json"


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":[' + b",".join([b"{}"] * 20_001) + b"]}",
        b'{"x":[' + b",".join([b"1"] * 100_001) + b"]}",
        b'{"x":[' + b",".join([b'""'] * 100_001) + b"]}",
        b"[" * 100_000,
    ],
)
def test_a_body_of_very_many_values_is_refused_before_it_is_built(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_object(body)
    assert refusal.value.code == "too_many_values"


@pytest.mark.parametrize(
    "text", [b"[{,:" * 100_000, b'\\"[{,:' * 100_000, b"\\\\" * 99 + b"[,{" * 100_000]
)
def test_a_long_text_may_hold_whatever_looks_like_values(text: bytes) -> None:
    assert len(parse_object(b'{"x":"' + text + b'"}')["x"]) > 100_000


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0a1e', max_size=60).map(str.encode))
def test_no_bytes_cause_anything_but_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except InvalidRequest as refusal:
        assert refusal.code == "invalid_json"
