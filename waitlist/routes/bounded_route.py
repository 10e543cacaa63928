"""How every route of the waitlist takes a body and refuses a wrong one.

Whatever goes wrong leaves these routes as a WaitlistError.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from waitlist.errors import RequestMalformed, RequestTooLarge

# The longest fields that are read, each character escaped as \uXXXX, and a proof of work: 7 KB.
_BODY_BYTES_MAX = 8192


class StrictBody(BaseModel):
    """A body of known fields of the right types, and of no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class BoundedRoute(APIRoute):
    """Turns FastAPI's own refusals into ours: those quote what was sent, code and address too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_refuse(request: Request) -> Response:
            try:
                return await handle(Request(request.scope, _bounded(request.receive)))
            except RequestValidationError as error:
                raise _refusal(error) from None
            except HTTPException as error:
                # FastAPI makes a 400 of whatever happens while it reads the body: text that is no
                # UTF-8 or is nested beyond reason, but also what a layer below it raised.
                cause = error.__cause__
                if isinstance(cause, ValueError | RecursionError):
                    raise RequestMalformed("The body is not valid JSON.") from None
                if cause is None or isinstance(cause, ClientDisconnect):
                    raise
                raise cause from None

        return handle_or_refuse


def _bounded(receive: Receive) -> Receive:
    """Ends a body at its bound, however it is sent: one in chunks tells no length beforehand."""
    received_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > _BODY_BYTES_MAX:
            raise RequestTooLarge(_BODY_BYTES_MAX)
        return message

    return receive_bounded


def _refusal(error: RequestValidationError) -> RequestMalformed:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return RequestMalformed("The body is not valid JSON.")
    # ("body", field); a name that we do not know is the caller's text and is cut short.
    path = [str(part)[:64] for part in first["loc"][1:]]
    param = ".".join(path) or None
    return RequestMalformed(f"{param or 'The body'}: {first['msg']}.", param=param)
