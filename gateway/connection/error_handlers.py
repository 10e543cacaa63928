"""How the framework's own errors, and those of mounted routes, are told to callers."""

from typing import Protocol

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from gateway.error_shapes import ErrorShape, error_body
from gateway.errors import (
    ApiError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    retry_headers,
)


class ToldError(Protocol):
    """An error of mounted routes: what it says, and under which status."""

    status_code: int
    code: str
    message: str
    param: str | None
    retry_after_s: int | None


async def render_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 404:
        raise NotFound(f"There is nothing at {path}. GET /openapi.json lists what there is.")
    if error.status_code == 405:
        raise MethodNotAllowed(
            f"{request.method} is not possible at {path}.", headers=error.headers or {}
        )
    raise InvalidRequest(str(error.detail))


async def render_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    raise InvalidRequest(f"{where or 'body'}: {first['msg']}", param=where or None)


async def raise_on(request: Request, error: Exception) -> Response:
    """Keeps the framework from answering 500 to what the request layer tells."""
    raise error


def render_told_error(request: Request, error: ToldError) -> Response:
    told = ApiError(error.message, code=error.code, param=error.param)
    told.type = "server_error" if error.status_code >= 500 else "invalid_request_error"
    if error.status_code == 429:
        told.type = "requests"
    request.scope["state"]["code"] = error.code  # for the log line and the metric
    body = error_body(told, ErrorShape.OPENAI, request.scope["state"]["request_id"])
    headers = {} if error.retry_after_s is None else dict(retry_headers(error.retry_after_s))
    return Response(body, error.status_code, headers, media_type="application/json")
