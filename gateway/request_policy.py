"""What a request body must look like before it may cost anything. Pure.

The body goes to the engine as it came; this is only a small typed view of it.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest

# Responses API features that need a store; the gateway keeps none, and the engine's own is
# neither shared between replicas nor separated by account.
_STORED = ("previous_response_id", "conversation")


@dataclass(frozen=True, slots=True)
class RequestView:
    """What the gateway needs to know of a body."""

    model: str
    stream: bool


def view_request(endpoint: Endpoint, body: bytes) -> RequestView:
    """Reads the body.

    Raises:
        InvalidRequest: not a JSON object, no model, a wrong type, or a feature that is refused.
    """
    document = _parse(body)
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(
            "`model` must name a model. GET /v1/models lists them.",
            code="missing_model" if model is None else "invalid_type",
            param="model",
        )
    stream = document.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("`stream` must be true or false.", code="invalid_type", param="stream")
    if stream and not endpoint.streams:
        raise InvalidRequest(
            f"{endpoint.path} does not stream.", code="unsupported_parameter", param="stream"
        )
    if endpoint.name == "responses":
        _refuse_stored_responses(document)
    return RequestView(model, bool(stream))


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return document


def _refuse_stored_responses(document: dict[str, Any]) -> None:
    """OpenAI stores a response unless told otherwise, so only an explicit true is refused."""
    if document.get("background"):
        raise InvalidRequest(
            "Background responses are not supported here: nothing stores them. "
            "Leave `background` out.",
            code="unsupported_parameter",
            param="background",
        )
    if document.get("store"):
        raise InvalidRequest(
            "Responses are not stored here. Send `store: false` or leave it out.",
            code="unsupported_parameter",
            param="store",
        )
    for name in _STORED:
        if document.get(name) is not None:
            raise InvalidRequest(
                f"`{name}` needs stored responses, and none are stored here. "
                "Send the whole conversation as `input`.",
                code="unsupported_parameter",
                param=name,
            )
