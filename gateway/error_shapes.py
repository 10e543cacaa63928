"""How an error looks on the wire, per family of endpoints. Pure: bytes out, no I/O.

Shapes: OpenAI's `{"error": {message, type, param, code}}`; Anthropic's
`{"type": "error", "error": {type, message}}` under `/v1/messages`; and, once a stream is under
way, the error event that each family's clients understand.
"""

from enum import Enum

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
                "error": {"type": _anthropic_type(error), "message": error.message},
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
    blank line makes clients drop that half rather than glue it to this event.
    """
    if shape is ErrorShape.ANTHROPIC:
        return b"\n\nevent: error\ndata: " + error_body(error, shape, request_id) + b"\n\n"
    if shape is ErrorShape.RESPONSES:
        data = orjson.dumps(
            {
                "type": "error",
                "code": error.code,
                "message": error.message,
                "param": error.param,
                "sequence_number": 0,
            }
        )
        return b"\n\nevent: error\ndata: " + data + b"\n\n"
    return b"\n\ndata: " + error_body(error, shape, request_id) + b"\n\n"


def _anthropic_type(error: ApiError) -> str:
    return _ANTHROPIC_TYPES.get(error.status_code, "api_error")
