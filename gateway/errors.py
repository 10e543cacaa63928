"""Errors of the gateway.

    GatewayError
    ├── FlowUnavailable            the flow Redis did not answer in time
    ├── ClientGone                 the caller hung up; nobody is left to answer
    ├── EngineUnreachable          no byte of an answer came; another replica may be tried
    │   └── EngineAbsent           nothing was sent, since no connection came about
    ├── EngineBroken               the answer broke off after its first byte
    ├── FileUnusable               a file of the operator's cannot be read or has a mistake
    └── ApiError                   what a caller is told, with status and code
        ├── InvalidRequest         400
        ├── AuthenticationFailed   401  missing, malformed, unknown or revoked key
        ├── NotFound               404  no such path or model
        ├── MethodNotAllowed       405
        ├── RequestTimeout         408
        ├── BodyTooLarge           413
        ├── HeadersTooLarge        431
        ├── RateLimited            429  the caller's quota: requests a minute
        │   ├── TokensLimited           tokens a minute
        │   ├── BudgetExhausted         tokens a day
        │   └── AccountQueueFull        as many of the account's requests wait as may *
        ├── EngineRefused               the engine's own refusal, once the status is out
        ├── EngineFailed           502  the engine answered with an error of its own
        ├── Unavailable            503  our capacity: engine, ledger or slots
        │   ├── EngineBusy              the engine has too much to do
        │   ├── QueueFull               the line is as long as may be *
        │   ├── QueueTimeout            waited as long as may be *
        │   ├── NoReplica               waited as long as may be, and nothing ran *
        │   └── Draining                this worker stops; another one goes on *
        └── StreamLifeExceeded     504

429 always means "your quota", 503 always means "our capacity". Those with a star tell of the line
and stand in `queue_errors`.
"""

from collections.abc import Mapping

import orjson


class GatewayError(Exception):
    """Root of this package's errors."""


class FlowUnavailable(GatewayError):
    """The flow Redis is gone, slow or answers with an error."""


class ClientGone(GatewayError):
    """The caller closed its connection."""


class EngineUnreachable(GatewayError):
    """The replica gave no byte of an answer."""


class EngineAbsent(EngineUnreachable):
    """No connection to the replica came about, so it was never asked."""


class EngineBroken(GatewayError):
    """The replica's answer broke off after its first byte."""


class FileUnusable(GatewayError):
    """A file of the operator's cannot be used; the message names file and line."""


class ApiError(GatewayError):
    """An answer to the caller, rendered in the shape of the endpoint that it called."""

    status_code: int = 500
    type: str = "server_error"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.headers: dict[str, str] = dict(headers or {})


class InvalidRequest(ApiError):
    status_code = 400
    type = "invalid_request_error"
    code = "invalid_request"


class AuthenticationFailed(ApiError):
    status_code = 401
    # OpenAI answers 401 with this type; the SDKs look at the status alone.
    type = "invalid_request_error"
    code = "invalid_api_key"


class NotFound(ApiError):
    status_code = 404
    type = "invalid_request_error"
    code = "unknown_url"


class MethodNotAllowed(ApiError):
    status_code = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(ApiError):
    status_code = 408
    type = "invalid_request_error"
    code = "request_timeout"


class HeadersTooLarge(ApiError):
    status_code = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class BodyTooLarge(ApiError):
    status_code = 413
    type = "invalid_request_error"
    code = "body_too_large"


class RateLimited(ApiError):
    status_code = 429
    type = "requests"
    code = "rate_limit_requests"


class TokensLimited(RateLimited):
    type = "tokens"
    code = "rate_limit_tokens"


class BudgetExhausted(RateLimited):
    type = "insufficient_quota"
    code = "budget_exhausted"


class EngineRefused(ApiError):
    """The engine refused a request: a prompt that is too long, an image that cannot be read."""

    type = "invalid_request_error"
    code = "engine_refused"

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        message, param = _engine_words(body)
        super().__init__(
            message or f"The engine refused with status {status}.", param=param, headers=headers
        )
        self.status_code = status


class EngineFailed(ApiError):
    status_code = 502
    type = "server_error"
    code = "engine_error"


class Unavailable(ApiError):
    status_code = 503
    type = "server_error"
    code = "no_capacity"


class EngineBusy(Unavailable):
    code = "engine_busy"

    def __init__(self) -> None:
        super().__init__(
            "The engine has too much to do. Try again shortly.", headers=retry_headers(2)
        )


class StreamLifeExceeded(ApiError):
    status_code = 504
    type = "server_error"
    code = "stream_life_exceeded"


# The OpenAI SDKs honour Retry-After up to 120 s and give up beyond.
RETRY_AFTER_S_MAX = 120


def retry_headers(retry_after_s: int) -> Mapping[str, str]:
    """The headers that tell an SDK to come back, and when."""
    return {"retry-after": str(retry_after_s), "x-should-retry": "true"}


def _engine_words(body: bytes) -> tuple[str, str | None]:
    """What the engine says, and of which field, in either family's error shape.

    An empty text where it does not say.
    """
    try:
        error = orjson.loads(body)["error"]
        message, param = str(error["message"]), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", None
    return message, param if isinstance(param, str) else None
