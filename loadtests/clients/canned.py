"""The replies of the canned upstream and the requests that ask for them: pure data."""

import json
from collections.abc import Iterator

MODEL = "bench-model"
WORKLOADS = ("chat", "stream")
"""One JSON answer, or one stream of events."""
STREAM_EVENTS = 64
"""Events of a stream before `[DONE]`: one for the role, 61 words, the finish, the usage."""

NUMBER = "0" * 6
"""Stands in a request's last message; whoever sends it puts another number there each time, since
no two people say the same. What the gateway has counted lately it does not count again."""

_CREATED_S = 1_790_000_000
_USAGE = {"prompt_tokens": 24, "completion_tokens": 62, "total_tokens": 86}


def chat_request(*, stream: bool) -> bytes:
    """A short chat request as an SDK sends it: compact JSON."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You answer in one short sentence."},
            {"role": "user", "content": f"What is the capital of France? {NUMBER}"},
        ],
        "max_tokens": 64,
        "temperature": 0,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, separators=(",", ":")).encode()


def chat_completion() -> str:
    """A whole chat completion with its usage."""
    message = {"role": "assistant", "content": "The capital of France is Paris."}
    return json.dumps(
        {
            "id": "chatcmpl-canned",
            "object": "chat.completion",
            "created": _CREATED_S,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    )


def model_list() -> str:
    """The answer of /v1/models."""
    model = {
        "id": MODEL,
        "object": "model",
        "created": _CREATED_S,
        "owned_by": "bench",
        "max_model_len": 8192,
    }
    return json.dumps({"object": "list", "data": [model]})


def stream_events() -> Iterator[str]:
    """The data of each event, JSON, `STREAM_EVENTS` of them, and last `[DONE]`."""
    yield _chunk({"role": "assistant", "content": ""})
    for number in range(STREAM_EVENTS - 3):
        yield _chunk({"content": f" word{number}"})
    yield _chunk({}, finish_reason="stop")
    yield json.dumps({**_CHUNK, "choices": [], "usage": _USAGE})
    yield "[DONE]"


_CHUNK: dict[str, object] = {
    "id": "chatcmpl-canned",
    "object": "chat.completion.chunk",
    "created": _CREATED_S,
    "model": MODEL,
}


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({**_CHUNK, "choices": [choice]})
