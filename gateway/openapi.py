"""The OpenAPI document of the `/v1/…` endpoints, which FastAPI does not see by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.error_shapes import ErrorShape

_BODY: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "required": ["model", "messages"],
        "properties": {"messages": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
    },
    "completions": {
        "required": ["model", "prompt"],
        "properties": {"prompt": {"type": ["string", "array"]}},
    },
    "responses": {
        "required": ["model", "input"],
        "properties": {"input": {"type": ["string", "array"]}},
    },
    "messages": {
        "required": ["model", "messages", "max_tokens"],
        "properties": {
            "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "max_tokens": {"type": "integer", "minimum": 1},
        },
    },
    "embeddings": {
        "required": ["model", "input"],
        "properties": {"input": {"type": ["string", "array"]}},
    },
}

_ERRORS = {
    "400": "The request is malformed.",
    "401": "No key, or a mistyped, unknown or revoked one.",
    "404": "No such model, or it cannot do this.",
    "413": "The body is too large.",
    "429": "The account's own quota is used up; see Retry-After.",
    "502": "The engine failed.",
    "503": "No capacity at the moment; see Retry-After.",
}


def document_engine_endpoints(app: FastAPI) -> None:
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
                schema["paths"][endpoint.path] = {"post": _operation(endpoint)}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    body = _BODY[endpoint.name]
    properties: dict[str, Any] = {"model": {"type": "string", "minLength": 1}, **body["properties"]}
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.streams:
        properties["stream"] = {"type": ["boolean", "null"]}
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": _error_schema(endpoint.shape)}}
    return {
        "summary": endpoint.summary,
        "tags": ["engine"],
        "operationId": endpoint.name.replace("/", "_"),
        "security": [{"apiKey": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": body["required"],
                        "properties": properties,
                    }
                }
            },
        },
        "responses": {
            "200": {"description": "The engine's answer, unchanged.", "content": content},
            **{s: {"description": d, "content": error} for s, d in _ERRORS.items()},
        },
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
    nullable = {"type": ["string", "null"]}
    properties |= {"param": nullable, "code": nullable}
    return {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": properties}},
    }
