import pytest

from loadtests.clients.response_end import ResponseEnd

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
EMPTY_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
CREATED = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("response", [SIZED, CHUNKED, EMPTY_CHUNKED, EMPTY, CREATED])
def test_the_end_is_found_at_the_last_byte_however_it_is_cut(response: bytes) -> None:
    end = ResponseEnd()
    for cut in range(1, len(response)):
        end.begin()
        assert not end.feed(response[:cut])
        assert end.feed(response[cut:])
    end.begin()
    seen = [end.feed(response[at : at + 1]) for at in range(len(response))]
    assert seen == [False] * (len(response) - 1) + [True]


def test_one_connection_sees_many_responses() -> None:
    end = ResponseEnd()
    for response in (SIZED, CHUNKED, EMPTY, SIZED):
        end.begin()
        assert end.feed(response)


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "refused"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "without an end"),
    ],
)
def test_other_answers_are_refused(response: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ResponseEnd().feed(response)
