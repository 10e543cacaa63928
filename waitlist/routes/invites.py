"""Redeeming codes, handing codes on, and reporting leaked secrets."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field

from waitlist.directory import Directory
from waitlist.errors import NotFound, RequestMalformed
from waitlist.proofs import tokens
from waitlist.proofs.addresses import EMAIL_CHARS_MAX
from waitlist.proofs.tokens import CODE_CHARS_MAX
from waitlist.routes.bounded_route import BoundedRoute, StrictBody
from waitlist.routes.credentials import CallerAddress, account_key
from waitlist.terms import IDEMPOTENCY_KEY_CHARS_MAX

Code = Annotated[
    str,
    Field(
        min_length=1,
        max_length=CODE_CHARS_MAX,
        description="The invite code. Case, spaces and hyphens do not matter.",
        examples=["fgi-7ZK3MPQ8XW2DTB9VRJ4N6HYC5G"],
    ),
]


class RedeemRequest(StrictBody):
    code: Code
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


class SharedResponse(BaseModel):
    code: str = Field(description="Shown this once; only its digest is kept.")
    invite_id: str
    expires_at: datetime | None
    invites_left: int


class SharedInviteResponse(BaseModel):
    invite_id: str
    state: Literal["open", "used", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None


class InvitesResponse(BaseModel):
    invites_left: int
    guests: int = Field(description="Accounts that came by these invites.")
    invites: list[SharedInviteResponse]


class LeakRequest(StrictBody):
    secret: Annotated[
        str,
        Field(
            min_length=1,
            max_length=CODE_CHARS_MAX,
            description="The leaked API key or invite code itself.",
        ),
    ]


class LeakResponse(BaseModel):
    revoked: Literal["api_key", "invite_code"]


def build_router(directory: Directory, caller_address: CallerAddress) -> APIRouter:
    router = APIRouter(route_class=BoundedRoute, tags=["invites"])
    _add_redeeming(router, directory, caller_address)
    _add_sharing(router, directory)
    _add_leaks(router, directory)
    return router


def _add_redeeming(router: APIRouter, directory: Directory, caller_address: CallerAddress) -> None:
    @router.post(
        "/invites/redeem",
        status_code=201,
        summary="Redeem an invite code",
        responses={
            400: {"description": "invalid_request, code_malformed or email_malformed"},
            403: {"description": "code_bound or campaign_paused"},
            404: {"description": "code_unknown"},
            409: {"description": "code_used or email_has_account"},
            410: {"description": "code_expired or code_revoked"},
            413: {"description": "body_too_large"},
            422: {"description": "idempotency_key_reused"},
            429: {"description": "too_many_refusals"},
            503: {"description": "ledger_unavailable"},
        },
    )
    async def redeem(
        body: RedeemRequest,
        request: Request,
        response: Response,
        idempotency_key: Annotated[
            str,
            Header(
                max_length=IDEMPOTENCY_KEY_CHARS_MAX,
                description="The same request with the same key gives the same answer for a day.",
            ),
        ] = "",
    ) -> RedeemResponse:
        """Turns an invite code into an account and its API key, exactly once."""
        redemption = await directory.redeem(
            body.code,
            body.email,
            idempotency_key=idempotency_key,
            network=caller_address(request),
        )
        response.headers["Cache-Control"] = "no-store"
        return RedeemResponse(
            account_id=redemption.account_id,
            api_key=redemption.api_key,
            key_id=redemption.key_id,
            plan=redemption.plan,
        )


def _add_sharing(router: APIRouter, directory: Directory) -> None:
    @router.get("/invites", summary="The invites that this account may hand on")
    async def list_invites(request: Request) -> InvitesResponse:
        caller = await account_key(request, directory)
        account = await directory.accounts.read(caller.account_id)
        now = directory.now()
        return InvitesResponse(
            invites_left=account.invites_left,
            guests=account.guests,
            invites=[
                SharedInviteResponse(
                    invite_id=invite.invite_id,
                    state=invite.state(now),
                    created_at=invite.created_at,
                    expires_at=invite.expires_at,
                )
                for invite in account.invites
            ],
        )

    @router.post(
        "/invites",
        status_code=201,
        summary="Make a code to hand on",
        responses={401: {"description": "no usable API key"}, 409: {"description": "none left"}},
    )
    async def share(request: Request, response: Response) -> SharedResponse:
        """Uses one of the account's invites. Whoever redeems the code is the account's guest."""
        caller = await account_key(request, directory)
        acting = directory.acting_as(caller.account_id)
        invite, left = await acting.invites.share(caller.account_id)
        response.headers["Cache-Control"] = "no-store"
        return SharedResponse(
            code=invite.code,
            invite_id=invite.invite_id,
            expires_at=invite.expires_at,
            invites_left=left,
        )


def _add_leaks(router: APIRouter, directory: Directory) -> None:
    @router.post(
        "/keys/report-leak",
        tags=["keys"],
        summary="Revoke a leaked API key or invite code",
        responses={404: {"description": "not_found: well formed, but not ours"}},
    )
    async def report_leak(body: LeakRequest) -> LeakResponse:
        """Whoever holds the secret may end it; nobody needs to be logged in for that."""
        acting = directory.acting_as("leak-report")
        if tokens.is_well_formed_key(body.secret.strip()):
            if await acting.keys.revoke_leaked(body.secret.strip()) is None:
                raise NotFound("key")
            return LeakResponse(revoked="api_key")
        if body.secret.strip().startswith((tokens.KEY_PREFIX, tokens.ADMIN_KEY_PREFIX)):
            raise RequestMalformed("This is no API key and no invite code of ours.", param="secret")
        await acting.revoke_invite(body.secret)
        return LeakResponse(revoked="invite_code")
