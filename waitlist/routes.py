"""The waitlist over HTTP. Whatever goes wrong leaves these routes as a WaitlistError."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from waitlist.addresses import EMAIL_CHARS_MAX
from waitlist.directory import Directory
from waitlist.errors import RequestMalformed, RequestTooLarge
from waitlist.tokens import CODE_CHARS_MAX

# The longest code and address that are read, each character escaped as \uXXXX: 2.3 KB.
_BODY_BYTES_MAX = 8192


class RedeemRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    code: Annotated[
        str,
        Field(
            min_length=1,
            max_length=CODE_CHARS_MAX,
            description="The invite code. Case, spaces and hyphens do not matter.",
            examples=["fgi-7ZK3MPQ8XW2DTB9VRJ4N6HYC5G"],
        ),
    ]
    # Checked by the directory, so that the command line and HTTP have one rule.
    email: Annotated[
        str,
        Field(
            min_length=3,
            max_length=EMAIL_CHARS_MAX,
            description="Where the account's mail goes. One account for each address.",
            examples=["ada@example.com"],
            json_schema_extra={"format": "email"},
        ),
    ]


class RedeemResponse(BaseModel):
    account_id: str
    api_key: str = Field(description="Shown this once; only its digest is kept.")
    key_id: str
    plan: str


class _WaitlistRoute(APIRoute):
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


def build_router(directory: Directory) -> APIRouter:
    """The routes of the waitlist. Whoever mounts them renders WaitlistError."""
    router = APIRouter(route_class=_WaitlistRoute, tags=["invites"])

    @router.post(
        "/invites/redeem",
        status_code=201,
        summary="Redeem an invite code",
        responses={
            400: {"description": "invalid_request, code_malformed or email_malformed"},
            404: {"description": "code_unknown"},
            409: {"description": "code_used or email_has_account"},
            410: {"description": "code_expired or code_revoked"},
            413: {"description": "body_too_large"},
            503: {"description": "ledger_unavailable"},
        },
    )
    async def redeem(body: RedeemRequest, response: Response) -> RedeemResponse:
        """Turns an invite code into an account and its API key, exactly once."""
        redemption = await directory.redeem(body.code, body.email)
        response.headers["Cache-Control"] = "no-store"
        return RedeemResponse(
            account_id=redemption.account_id,
            api_key=redemption.api_key,
            key_id=redemption.key_id,
            plan=redemption.plan,
        )

    return router


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
