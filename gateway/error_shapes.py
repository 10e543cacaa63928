"""How an error looks on the wire, per family of endpoints. Pure: bytes out, no I/O.

Shapes: OpenAI's `{"error": {message, type, param, code}}`; Anthropic's
`{"type": "error", "error": {type, message, code}}` under `/v1/messages`, where `code` is the
reason, which Anthropic's own types do not tell; and, once a stream is under
way, the error event that each family's clients understand.
"""

from enum import Enum
from typing import Any

import orjson

from gateway.errors import ApiError

# Anthropic's documented error types by status; their SDK maps on the status alone.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ErrorShape(Enum):
    """Which family of clients reads the answer."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


def error_body(error: ApiError, shape: ErrorShape, request_id: str) -> bytes:
    """The JSON body of an answer that is nothing but an error."""
    if shape is ErrorShape.ANTHROPIC:
        return orjson.dumps(
            {
                "type": "error",
                "error": {
                    "type": _anthropic_type(error),
                    "message": error.message,
                    "code": error.code,
                },
                "request_id": request_id,
            }
        )
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def error_event(error: ApiError, shape: ErrorShape, request_id: str) -> bytes:
    """The server-sent event that ends a stream whose status is already out.

    It begins with a blank line: the engine may have died in the middle of an event, and the
    blank line makes clients drop that half rather than glue it to this event. No header can
    follow, so the event holds the reason and `retry_after` in seconds where there is one.
    """
    told: dict[str, Any] = {"reason": error.code}
    if "retry-after" in error.headers:
        told["retry_after"] = int(error.headers["retry-after"])
    document: dict[str, Any] = orjson.loads(error_body(error, shape, request_id))
    if shape is ErrorShape.RESPONSES:
        document = {**document["error"], **told, "type": "error", "sequence_number": 0}
    else:
        document["error"] |= told
    name = b"" if shape is ErrorShape.OPENAI else b"event: error\n"
    return b"\n\n" + name + b"data: " + orjson.dumps(document) + b"\n\n"


def _anthropic_type(error: ApiError) -> str:
    return _ANTHROPIC_TYPES.get(error.status_code, "api_error")
