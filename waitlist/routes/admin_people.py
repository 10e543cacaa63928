"""Operators and people: search, accounts, keys, erasing, export, operators' own keys."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from waitlist.directory import Directory
from waitlist.errors import NotFound, PlaceGone
from waitlist.operators.exports import exported_row
from waitlist.proofs.addresses import EMAIL_CHARS_MAX
from waitlist.routes.bounded_route import StrictBody
from waitlist.routes.credentials import operator


class SearchBody(StrictBody):
    email: Annotated[str, Field(min_length=3, max_length=EMAIL_CHARS_MAX)]


class PlanBody(StrictBody):
    plan: str


class GrantBody(StrictBody):
    count: int


class RevokeBody(StrictBody):
    branch: Annotated[
        bool, Field(description="Also everybody who came by the account's invites, and theirs.")
    ] = False


class AdminBody(StrictBody):
    name: str
    role: str


def add_routes(router: APIRouter, directory: Directory) -> None:
    _add_search(router, directory)
    _add_accounts(router, directory)
    _add_operators(router, directory)


def _add_search(router: APIRouter, directory: Directory) -> None:
    @router.post("/search", summary="Who has this address (operator)")
    async def search(body: SearchBody, request: Request) -> dict[str, Any]:
        """The place and the account of an address. The audit keeps that it was asked."""
        acting = await operator(request, directory, "operator")
        entry_id, account_id = await acting.overview.find_address(body.email)
        entry = None
        if entry_id is not None:
            [entry] = await acting.entries.read_many([entry_id])
        account = None if account_id is None else await acting.accounts.read(account_id)
        return {
            "entry": None if entry is None else exported_row(entry),
            "account": None if account is None else asdict(account),
        }

    @router.get("/entries/{entry_id}", summary="One place (operator)")
    async def read_entry(entry_id: str, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        try:
            entry = await acting.entries.read(entry_id)
        except PlaceGone:
            raise NotFound("place") from None
        await acting.overview.note("entry_read", entry_id)
        return exported_row(entry)

    @router.post("/entries/{entry_id}/erase", summary="Erase what is personal (owner)")
    async def erase_entry(entry_id: str, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "owner")
        try:
            return {"state": await acting.departures.erase_for_operator(entry_id)}
        except PlaceGone:
            raise NotFound("place") from None

    @router.get("/export", summary="Every place as lines of JSON (owner)")
    async def export(request: Request) -> Response:
        acting = await operator(request, directory, "owner")
        await acting.overview.note("entries_exported", "api")

        async def lines() -> AsyncIterator[bytes]:
            async for entry in acting.exports.entries():
                yield json.dumps(exported_row(entry), ensure_ascii=False).encode() + b"\n"

        return StreamingResponse(
            lines(), media_type="application/jsonl", headers={"Cache-Control": "no-store"}
        )


def _add_accounts(router: APIRouter, directory: Directory) -> None:
    @router.get("/accounts/{account_id}", summary="An account (operator)")
    async def read_account(account_id: str, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        account = await acting.accounts.read(account_id)
        await acting.overview.note("account_read", account_id)
        return {
            **asdict(account),
            "keys": [asdict(key) for key in await acting.keys.of_account(account_id)],
        }

    @router.post("/accounts/{account_id}/plan", summary="Change its plan (owner)")
    async def set_plan(account_id: str, body: PlanBody, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "owner")
        await acting.accounts.set_plan(account_id, body.plan)
        return {"account_id": account_id, "plan": body.plan}

    @router.post("/accounts/{account_id}/invites", summary="Invites to hand on (operator)")
    async def grant(account_id: str, body: GrantBody, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        await acting.accounts.grant_invites(account_id, body.count)
        return {"account_id": account_id, "invites_left": body.count}

    @router.post("/accounts/{account_id}/revoke", summary="Revoke it with its keys (operator)")
    async def revoke(account_id: str, body: RevokeBody, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        if body.branch:
            return asdict(await acting.accounts.revoke_branch(account_id))
        return asdict(await acting.accounts.revoke(account_id))

    @router.post("/accounts/{account_id}/erase", summary="Revoke and erase it (owner)")
    async def erase_account(account_id: str, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "owner")
        return asdict(await acting.erase_account(account_id))

    @router.post("/keys/{key_id}/revoke", summary="Revoke a key (operator)")
    async def revoke_key(key_id: str, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        revocation = await acting.keys.revoke(key_id)
        if revocation is None:
            raise NotFound("key")
        return asdict(revocation)


def _add_operators(router: APIRouter, directory: Directory) -> None:
    @router.post("/admins", status_code=201, summary="Make an operator's key (owner)")
    async def add_admin(body: AdminBody, request: Request, response: Response) -> dict[str, Any]:
        acting = await operator(request, directory, "owner")
        made = await acting.admins.add(body.name, body.role)
        response.headers["Cache-Control"] = "no-store"
        return asdict(made)

    @router.get("/admins", summary="Operators' keys, newest first (owner)")
    async def list_admins(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "owner")
        return {"admins": [asdict(admin) for admin in await acting.admins.list_all()]}

    @router.delete("/admins/{admin_id}", status_code=204, summary="Revoke one (owner)")
    async def revoke_admin(admin_id: str, request: Request) -> None:
        acting = await operator(request, directory, "owner")
        await acting.admins.revoke(admin_id)
