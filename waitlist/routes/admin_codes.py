"""Operators and codes: campaigns, single codes, withdrawing them."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from waitlist.directory import PLAN_DEFAULT, Directory
from waitlist.errors import RequestMalformed
from waitlist.routes.admin_line import Seconds
from waitlist.routes.bounded_route import StrictBody
from waitlist.routes.credentials import operator
from waitlist.storage.records import Invite


class CampaignBody(StrictBody):
    name: str
    plan: str = PLAN_DEFAULT


class CampaignCodesBody(StrictBody):
    count: int
    uses: int = 1
    expires_in_s: Seconds | None = None


class CampaignPauseBody(StrictBody):
    paused: bool


class InvitesBody(StrictBody):
    count: int
    plan: str = PLAN_DEFAULT
    note: str = ""
    expires_in_s: Seconds | None = None
    uses: int = 1


class RevokeInviteBody(StrictBody):
    code: str = ""
    invite_id: str = ""


def add_routes(router: APIRouter, directory: Directory) -> None:
    @router.post("/campaigns", status_code=201, summary="Make a campaign (operator)")
    async def add_campaign(body: CampaignBody, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        await acting.campaigns.add(body.name, body.plan)
        return asdict(await acting.campaigns.read(body.name))

    @router.get("/campaigns", summary="Campaigns, newest first (viewer)")
    async def list_campaigns(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return {"campaigns": [asdict(campaign) for campaign in await acting.campaigns.list_all()]}

    @router.post("/campaigns/{name}/codes", status_code=201, summary="Make its codes (operator)")
    async def make_codes(
        name: str, body: CampaignCodesBody, request: Request, response: Response
    ) -> dict[str, Any]:
        """Shown this once. The link opens the page where a code is redeemed."""
        acting = await operator(request, directory, "operator")
        made = await acting.campaigns.make_codes(
            name, body.count, uses=body.uses, expires_in_s=body.expires_in_s
        )
        response.headers["Cache-Control"] = "no-store"
        return {"invites": [_invite(acting, invite) for invite in made]}

    @router.post("/campaigns/{name}/pause", summary="Pause its codes, or end that (operator)")
    async def pause_campaign(
        name: str, body: CampaignPauseBody, request: Request
    ) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        await acting.campaigns.pause(name, paused=body.paused)
        return asdict(await acting.campaigns.read(name))

    @router.post("/invites", status_code=201, summary="Make codes (operator)")
    async def create_invites(
        body: InvitesBody, request: Request, response: Response
    ) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        made = await acting.invites.create(
            body.count, body.plan, note=body.note, expires_in_s=body.expires_in_s, uses=body.uses
        )
        response.headers["Cache-Control"] = "no-store"
        return {"invites": [_invite(acting, invite) for invite in made]}

    @router.post("/invites/revoke", summary="Withdraw a code (operator)")
    async def revoke_invite(body: RevokeInviteBody, request: Request) -> dict[str, Any]:
        """By the code itself or by its invite_id."""
        acting = await operator(request, directory, "operator")
        if bool(body.code) == bool(body.invite_id):
            raise RequestMalformed("Give either code or invite_id.", param="code")
        if body.code:
            await acting.invites.revoke(body.code)
        else:
            await acting.invites.revoke_by_id(body.invite_id)
        return {"revoked": True}

    @router.post("/campaigns/{name}/revoke", summary="Withdraw its codes (operator)")
    async def revoke_campaign(name: str, request: Request) -> dict[str, Any]:
        """Those that are not used up. Accounts that came by the others stay."""
        acting = await operator(request, directory, "operator")
        return {"revoked": await acting.invites.revoke_campaign(name)}


def _invite(directory: Directory, invite: Invite) -> dict[str, Any]:
    return {
        "code": invite.code,
        "link": directory.redeem_link(invite.code),
        "invite_id": invite.invite_id,
        "plan": invite.plan,
        "created_at": invite.created_at,
        "expires_at": invite.expires_at,
    }
