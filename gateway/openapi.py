"""The OpenAPI document of the `/v1/…` endpoints, which FastAPI does not see by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.error_shapes import ErrorShape
from gateway.request.body_fields import nullable
from gateway.request.chat_fields import CHOICES_MAX
from gateway.request.request_policy import FIELDS, REQUIRED, PolicyBounds

_ERRORS = {
    "400": "The request is malformed, out of bounds, or asks for what is not possible here.",
    "401": "No key, or a mistyped, unknown or revoked one.",
    "404": "No such model, or it cannot do this.",
    "408": "Headers or body took too long to arrive.",
    "413": "The body is too large.",
    "422": "The engine could not use an image, sound or video.",
    "429": "The account's own quota is used up; see Retry-After.",
    "431": "Request line and headers are too large.",
    "500": "The gateway failed.",
    "502": "The engine failed.",
    "503": "No capacity at the moment; see Retry-After.",
    "504": "The answer took longer than it may live.",
}


def document_engine_endpoints(app: FastAPI, bounds: PolicyBounds) -> None:
    """Makes `/openapi.json` describe the engine endpoints besides the app's own routes."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            schema.setdefault("components", {}).setdefault("securitySchemes", {})["apiKey"] = {
                "type": "http",
                "scheme": "bearer",
                "description": "A key that POST /invites/redeem gave out.",
            }
            for endpoint in ENDPOINTS:
                schema["paths"][endpoint.path] = {"post": _operation(endpoint, bounds)}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _operation(endpoint: Endpoint, bounds: PolicyBounds) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": _error_schema(endpoint.shape)}}
    return {
        "summary": endpoint.summary,
        "tags": ["engine"],
        "operationId": endpoint.name.replace("/", "_"),
        "security": [{"apiKey": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _body_schema(endpoint, bounds)}},
        },
        "responses": {
            "200": {"description": "The engine's answer.", "content": content},
            **{s: {"description": d, "content": error} for s, d in _ERRORS.items()},
        },
    }


def _body_schema(endpoint: Endpoint, bounds: PolicyBounds) -> dict[str, Any]:
    """What the policy checks, said by the fields that it checks with."""
    required = ("model", *REQUIRED[endpoint.name])
    properties = {
        name: dict(field.schema) if name in required else nullable(field.schema)
        for name, field in FIELDS[endpoint.name].items()
    }
    if "n" in properties:
        most = min(bounds.choices_max, CHOICES_MAX)
        properties["n"] = nullable({"type": "integer", "minimum": 1, "maximum": most})
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def _error_schema(shape: ErrorShape) -> dict[str, Any]:
    text = {"type": "string"}
    properties: dict[str, Any] = {"message": text, "type": text}
    if shape is ErrorShape.ANTHROPIC:
        return {
            "type": "object",
            "properties": {
                "type": {"const": "error"},
                "error": {"type": "object", "properties": properties},
                "request_id": text,
            },
        }
    maybe = {"type": ["string", "null"]}
    properties |= {"param": maybe, "code": maybe}
    return {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": properties}},
    }
