"""What an account does with its own keys."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from waitlist.directory import Directory
from waitlist.errors import NotFound
from waitlist.holders.keys import NAME_CHARS_MAX, OVERLAP_S_MAX
from waitlist.holders.usage import DAYS_KEPT, DayUsage
from waitlist.routes.bounded_route import BoundedRoute, StrictBody
from waitlist.routes.credentials import account_key
from waitlist.storage.records import OwnKey

Name = Annotated[
    str, Field(max_length=NAME_CHARS_MAX, description="For your own records.", examples=["ci"])
]
_REFUSALS: dict[int | str, dict[str, str]] = {
    401: {"description": "missing_api_key, malformed_api_key, invalid_api_key, revoked_api_key"},
    404: {"description": "not_found"},
    409: {"description": "too_many_keys"},
}


class MakeKeyRequest(StrictBody):
    name: Name = ""


class RotateKeyRequest(StrictBody):
    name: Name = ""
    overlap_s: Annotated[
        float,
        Field(
            ge=0,
            le=OVERLAP_S_MAX,
            strict=False,
            description="How long the old key goes on beside the new one.",
        ),
    ] = 86_400.0


class NewKeyResponse(BaseModel):
    key_id: str
    api_key: str = Field(description="Shown this once; only its digest is kept.")


class KeyResponse(BaseModel):
    key_id: str
    hint: str
    name: str
    state: Literal["live", "rotated", "ended", "revoked"] = Field(
        description="rotated: replaced, and good until ends_at."
    )
    created_at: datetime
    ends_at: datetime | None
    revoked_at: datetime | None
    current: bool = Field(description="Whether this request came with it.")


class UsageCounts(BaseModel):
    requests: int
    prompt_tokens: int
    output_tokens: int


class DayUsageResponse(UsageCounts):
    day: date = Field(description="In UTC.")
    models: dict[str, UsageCounts]


class UsageResponse(BaseModel):
    account_id: str
    days: list[DayUsageResponse] = Field(description="Latest first; days without use are left out.")


class KeysResponse(BaseModel):
    account_id: str
    plan: str
    keys: list[KeyResponse]


def build_router(directory: Directory) -> APIRouter:
    router = APIRouter(route_class=BoundedRoute, tags=["keys"])

    @router.get("/keys", summary="The account's keys, newest first", responses=_REFUSALS)
    async def list_keys(request: Request) -> KeysResponse:
        caller = await account_key(request, directory)
        now = directory.now()
        return KeysResponse(
            account_id=caller.account_id,
            plan=caller.plan,
            keys=[
                _key_response(key, now, caller.key_id)
                for key in await directory.keys.of_account(caller.account_id)
            ],
        )

    @router.get("/keys/usage", summary="What the account used, by day", responses=_REFUSALS)
    async def usage(
        request: Request,
        days: Annotated[int, Query(ge=1, le=DAYS_KEPT, description="Up to today.")] = 30,
    ) -> UsageResponse:
        """All keys of the account together. What runs now is in it a second after its end."""
        caller = await account_key(request, directory)
        used = await directory.usage.usage_of(caller.account_id, days)
        return UsageResponse(account_id=caller.account_id, days=[_day_response(d) for d in used])

    @router.post("/keys", status_code=201, summary="Make a further key", responses=_REFUSALS)
    async def make_key(
        body: MakeKeyRequest, request: Request, response: Response
    ) -> NewKeyResponse:
        caller = await account_key(request, directory)
        made = await directory.acting_as(caller.account_id).keys.make(
            caller.account_id, name=body.name
        )
        response.headers["Cache-Control"] = "no-store"
        return NewKeyResponse(key_id=made.key_id, api_key=made.api_key)

    @router.post(
        "/keys/{key_id}/rotate",
        status_code=201,
        summary="Replace a key by a new one",
        responses=_REFUSALS,
    )
    async def rotate_key(
        key_id: str, body: RotateKeyRequest, request: Request, response: Response
    ) -> NewKeyResponse:
        """The old key goes on for `overlap_s` and ends then by itself."""
        caller = await account_key(request, directory)
        made = await directory.acting_as(caller.account_id).keys.rotate(
            caller.account_id, key_id, overlap_s=body.overlap_s, name=body.name
        )
        response.headers["Cache-Control"] = "no-store"
        return NewKeyResponse(key_id=made.key_id, api_key=made.api_key)

    @router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key", responses=_REFUSALS)
    async def revoke_key(key_id: str, request: Request) -> None:
        """It holds from the key's next request on. A key may revoke itself."""
        caller = await account_key(request, directory)
        acting = directory.acting_as(caller.account_id)
        if await acting.keys.revoke(key_id, account_id=caller.account_id) is None:
            raise NotFound("key")

    @router.delete("/account", status_code=204, summary="Erase the account", responses=_REFUSALS)
    async def erase_account(request: Request) -> None:
        """Revokes all its keys and the codes that it handed on, and erases its address."""
        caller = await account_key(request, directory)
        await directory.acting_as(caller.account_id).erase_account(caller.account_id)

    return router


def _day_response(used: DayUsage) -> DayUsageResponse:
    return DayUsageResponse(
        day=used.day,
        models={model: UsageCounts(**asdict(one)) for model, one in used.by_model.items()},
        **asdict(used.total),
    )


def _key_response(key: OwnKey, now: datetime, current_key_id: str) -> KeyResponse:
    state: Literal["live", "rotated", "ended", "revoked"] = "live"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.ends_at is not None:
        state = "ended" if key.ends_at <= now else "rotated"
    return KeyResponse(
        key_id=key.key_id,
        hint=key.hint,
        name=key.name,
        state=state,
        created_at=key.created_at,
        ends_at=key.ends_at,
        revoked_at=key.revoked_at,
        current=key.key_id == current_key_id,
    )
