"""An engine's own fault, told inside its stream."""

import orjson
import pytest

from gateway.answer.fault_events import FaultEvents

TOKEN = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
NAMED_TOKEN = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'
CREATED = b'event: response.created\ndata: {"type":"response.created","response":{}}\n\n'
IN_PROGRESS = b'event: response.in_progress\ndata: {"type":"response.in_progress"}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"delta":"hi"}\n\n'


def chat_error(code: object, kind: str = "InternalServerError") -> bytes:
    error = {"message": "EngineCore died", "type": kind, "param": None, "code": code}
    return b'data: {"error": %s}\n\n' % orjson.dumps(error)


def named_error(kind: str, message: str = "EngineCore died") -> bytes:
    error = {"type": "error", "error": {"type": kind, "message": message}}
    return b"event: error\ndata: %s\n\n" % orjson.dumps(error)


def read(stream: bytes, endpoint: str, piece_bytes: int = 0) -> tuple[bytes, str | None]:
    """What passes, and what is told, of a stream that comes in pieces of so many bytes."""
    faults = FaultEvents(endpoint)
    passed = b""
    size = piece_bytes or len(stream)
    for at in range(0, len(stream), size):
        passed += faults.feed(stream[at : at + size])
        if faults.told is not None:
            return passed, faults.told
    return passed + faults.rest(), None


FAULTS = [
    ("chat/completions", b"", chat_error(500) + DONE),
    ("chat/completions", TOKEN * 3, chat_error(503) + DONE),
    ("chat/completions", TOKEN, chat_error(None, "server_error")),
    ("completions", b": queue\n\n" + TOKEN, chat_error(500) + DONE),
    ("messages", b"", named_error("internal_error")),
    ("messages", NAMED_TOKEN, named_error("overloaded_error")),
    ("messages", NAMED_TOKEN, named_error("internal_error", "input={'code': 500}}")),
    (
        "responses",
        CREATED + DELTA,
        b'event: error\ndata: {"type":"error","code":"server_error","message":"EngineCore died"}'
        b"\n\n",
    ),
]


@pytest.mark.parametrize(("endpoint", "before", "fault"), FAULTS)
@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 60])
def test_a_fault_is_found_and_nothing_of_it_passes(
    endpoint: str, before: bytes, fault: bytes, piece_bytes: int
) -> None:
    passed, told = read(before + fault, endpoint, piece_bytes)
    assert passed == before
    assert told is not None


@pytest.mark.parametrize(
    ("endpoint", "stream"),
    [
        ("chat/completions", chat_error(400, "BadRequestError") + DONE),
        ("chat/completions", TOKEN + chat_error("invalid_prompt", "invalid_request_error")),
        ("completions", TOKEN * 2 + DONE),
        # What a model says, as vLLM writes it: quotes are escaped, and so are line feeds.
        ("completions", b'data: {"choices":[{"text":"data: {\\"error\\": 500"}]}\n\n'),
        ("completions", b'data: {"choices":[{"text":"\\ndata: {\\"error\\": {\\"code\\": 500}}'),
        ("messages", b'event: ping\ndata: {"text":"\\nevent: error\\ndata: {}"}\n\n'),
        ("messages", named_error("internal_error", "input_value={'error': 'code': 400}}")),
        ("messages", named_error("invalid_request_error")),
        ("messages", b"event: error\ndata: no JSON\n\n"),
        ("messages", b"event: error\ndata: [1]\n\n"),
        ("messages", b'event: error\ndata: {"error": {"type": []}}\n\n'),
        ("messages", b"event: err"),
        ("responses", CREATED + IN_PROGRESS + DELTA),
        ("responses", CREATED + IN_PROGRESS),
        ("responses", CREATED + b"event: resp"),
        ("responses", b": a comment\n\n" + CREATED + DELTA),
        ("chat/completions", b'data: {"error": {"message": "' + b"x" * 400_000),
        ("responses", CREATED[:-4] + b"x" * 400_000),
    ],
)
@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 60])
def test_everything_else_passes_as_it_is(endpoint: str, stream: bytes, piece_bytes: int) -> None:
    if len(stream) > 100_000 and piece_bytes:
        piece_bytes = 10_000
    assert read(stream, endpoint, piece_bytes) == (stream, None)


def test_whole_events_pass_at_once() -> None:
    faults = FaultEvents("chat/completions")
    assert faults.feed(TOKEN) is TOKEN
    assert faults.feed(b'data: {"choices":') == b'data: {"choices":'
    assert faults.feed(b"[]}\n\n") == b"[]}\n\n"


def test_what_comes_before_any_output_of_a_response_waits_for_it() -> None:
    faults = FaultEvents("responses")
    assert faults.feed(CREATED) == b""
    assert faults.feed(IN_PROGRESS) == b""
    assert faults.feed(DELTA) == CREATED + IN_PROGRESS + DELTA
    assert faults.feed(CREATED) == CREATED
