from pathlib import Path

import pytest

from loadtests.clients.request_bytes import (
    gets_of_lines,
    numbered,
    post_request,
    posts_of_lines,
)


def test_a_request_says_its_length_and_keeps_its_headers() -> None:
    request = post_request("http://127.0.0.1:8000/v1/chat", ["Authorization: Bearer x"], b"{}")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/chat HTTP/1.1"
    assert b"Host: 127.0.0.1:8000" in head
    assert b"Content-Length: 2" in head
    assert b"Authorization: Bearer x" in head
    assert body == b"{}"


def test_each_line_of_a_file_is_a_request_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('{"a": 1}\n\n{"a": 22}\n')
    first, second = posts_of_lines("http://h:1/join", [], file)
    assert first.endswith(b'Content-Length: 8\r\n\r\n{"a": 1}')
    assert second.endswith(b'Content-Length: 9\r\n\r\n{"a": 22}')
    file.write_text("/status?of=1\n/status?of=2\n")
    assert gets_of_lines("http://h:1", ["X: y"], file) == [
        b"GET /status?of=%d HTTP/1.1\r\nHost: h:1\r\nX: y\r\n\r\n" % number for number in (1, 2)
    ]


def test_a_file_without_a_line_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("\n")
    for read in (posts_of_lines, gets_of_lines):
        with pytest.raises(ValueError, match="has no line"):
            read("http://h:1/", [], file)


def test_a_numbered_request_is_never_the_same_twice_and_keeps_its_length() -> None:
    requests = numbered(b'{"content": "a 0000 b"}', b"0000")
    first, second, third = (next(requests) for _ in range(3))
    assert len({first, second, third}) == 3
    assert len(first) == len(second) == len(third) == len(b'{"content": "a 0000 b"}')
    assert first.startswith(b'{"content": "a ') and first.endswith(b' b"}')
    with pytest.raises(ValueError, match="no 0000"):
        next(numbered(b"{}", b"0000"))
