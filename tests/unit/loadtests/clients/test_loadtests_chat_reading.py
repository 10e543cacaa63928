from loadtests.clients.chat_reading import ChatReading, error_of


def read(*lines: bytes) -> ChatReading:
    """The lines, one a second from second 1 on."""
    reading = ChatReading()
    for second, line in enumerate(lines, 1):
        reading.take_line(line, float(second))
    return reading


OPENING = b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n'
TOKEN = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":" word"}}]}\n'
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n'
DONE = b"data: [DONE]\n"


def test_tokens_give_the_first_time_the_mean_gap_and_the_usage() -> None:
    reading = read(OPENING, b"\n", TOKEN, TOKEN, b"\n", TOKEN, USAGE, DONE)
    assert reading.first_token_at_s == 3.0
    assert reading.tokens == 3
    assert reading.itl_s == 1.5
    assert reading.gap_s_max == 2.0
    assert (reading.prompt_tokens, reading.completion_tokens) == (7, 3)
    assert reading.is_done
    assert reading.error is None


def test_places_are_read_from_comments() -> None:
    reading = read(
        b": queue position=12 eta=8s p90=15s\n",
        b"\n",
        b": queue position=3 eta=unknown\n",
        b": something else\n",
        TOKEN,
    )
    assert (reading.place_first, reading.place_last, reading.places) == (12, 3, 2)
    assert (reading.first_place_at_s, reading.eta_first_s) == (1.0, 8)
    assert reading.first_token_at_s == 5.0


def test_an_unknown_estimate_is_none() -> None:
    assert read(b": queue position=12 eta=unknown\n").eta_first_s is None


def test_an_error_event_ends_the_chat_with_its_code() -> None:
    reading = read(b'data: {"error":{"message":"m","code":"queue_timeout"}}\n')
    assert reading.error == {"message": "m", "code": "queue_timeout"}
    assert not reading.is_done


def test_text_that_looks_like_an_error_is_a_token() -> None:
    line = b'data: {"id":"1","choices":[{"delta":{"content":"{\\"error\\": 1}"}}]}\n'
    assert read(line).tokens == 1


def test_an_error_body_in_no_known_shape_is_empty() -> None:
    assert error_of(b'{"error":{"code":"queue_full"}}') == {"code": "queue_full"}
    assert error_of(b"<html>") == {}
    assert error_of(b'{"error":"text"}') == {}
    assert error_of(b"[]") == {}
