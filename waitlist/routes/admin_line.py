"""Operators and the line: overview, releases, schedules, pauses, mails."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from waitlist.directory import PLAN_DEFAULT, Directory
from waitlist.release.release_store import DECISIONS_SHOWN_MAX
from waitlist.release.releases import INVITE_LIFE_S_DEFAULT
from waitlist.routes.bounded_route import StrictBody
from waitlist.routes.credentials import operator

# Larger batches are worked off by the gateway's own rounds, so that no request waits for minutes.
_RELEASED_AT_ONCE_MAX = 10_000
_AUDIT_PAGE = 200

Seconds = Annotated[float, Field(gt=0, strict=False)]
# JSON has no times; strict models would refuse their texts.
Moment = Annotated[datetime, Field(strict=False)]


class ReleaseBody(StrictBody):
    count: int
    plan: str = PLAN_DEFAULT
    invite_life_s: Seconds = INVITE_LIFE_S_DEFAULT
    transferable: bool = False
    reason: str = ""


class ScheduleBody(StrictBody):
    first_at: Moment
    count: int
    every_s: Annotated[float, Field(ge=0, strict=False)] = 0
    until: Moment | None = None
    plan: str = PLAN_DEFAULT
    invite_life_s: Seconds = INVITE_LIFE_S_DEFAULT


class PauseBody(StrictBody):
    what: Literal["joining", "releasing"]
    paused: bool


def add_routes(router: APIRouter, directory: Directory) -> None:
    _add_reading(router, directory)
    _add_releasing(router, directory)
    _add_mails(router, directory)


def _add_reading(router: APIRouter, directory: Directory) -> None:
    @router.get("/overview", summary="How the line stands (viewer)")
    async def overview(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return asdict(await acting.overview.line())

    @router.get("/statistics", summary="Counts by day in UTC, today last (viewer)")
    async def statistics(request: Request, days: Annotated[int, Query()] = 30) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        rows = await acting.overview.days(days)
        return {"days": [{"day": row.day.isoformat(), **row.counts} for row in rows]}

    @router.get("/audit", summary="A page of the audit, oldest first (viewer)")
    async def audit(request: Request, after: Annotated[str, Query()] = "") -> dict[str, Any]:
        """`after` is the last id of the page before."""
        acting = await operator(request, directory, "viewer")
        entries = await acting.overview.audit_page(after, _AUDIT_PAGE)
        return {"entries": [{"id": entry.audit_id, **entry.fields} for entry in entries]}

    @router.post("/pauses", summary="Pause joining or releasing, or end a pause (operator)")
    async def pause(body: PauseBody, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        changed = await acting.overview.pause(body.what, paused=body.paused)
        return {"what": body.what, "paused": body.paused, "changed": changed}


def _add_releasing(router: APIRouter, directory: Directory) -> None:
    @router.post("/releases", status_code=201, summary="Let people in now (operator)")
    async def release(body: ReleaseBody, request: Request) -> dict[str, Any]:
        """Up to 10,000 at once; a larger batch is opened and worked off within minutes."""
        acting = await operator(request, directory, "operator")
        batch_id = await acting.releases.open(
            body.count,
            plan=body.plan,
            invite_life_s=body.invite_life_s,
            transferable=body.transferable,
            reason=body.reason,
        )
        if body.count > _RELEASED_AT_ONCE_MAX:
            return asdict(await acting.releases.read(batch_id))
        return asdict(await acting.releases.work_off(batch_id))

    @router.get("/releases", summary="The newest batches (viewer)")
    async def list_releases(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return {"batches": [asdict(batch) for batch in await acting.releases.newest()]}

    @router.post("/releases/{batch_id}/close", summary="End a batch early (operator)")
    async def close(batch_id: str, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        await acting.releases.close(batch_id, "by an operator")
        return asdict(await acting.releases.read(batch_id))

    @router.get("/releases/decisions", summary="What automatic release decided (viewer)")
    async def list_decisions(
        request: Request, count: Annotated[int, Query(ge=1, le=DECISIONS_SHOWN_MAX)] = 20
    ) -> dict[str, Any]:
        """Newest first, each with its arithmetic; `released` is null until it was carried out."""
        acting = await operator(request, directory, "viewer")
        return {"decisions": await acting.release_decisions(count)}

    @router.post("/schedules", status_code=201, summary="Let people in at a time (operator)")
    async def add_schedule(body: ScheduleBody, request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "operator")
        schedule_id = await acting.schedules.add(
            body.first_at,
            body.count,
            every_s=body.every_s,
            until=body.until,
            plan=body.plan,
            invite_life_s=body.invite_life_s,
        )
        return {"schedule_id": schedule_id}

    @router.get("/schedules", summary="Schedules, next first (viewer)")
    async def list_schedules(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return {"schedules": [asdict(schedule) for schedule in await acting.schedules.list_all()]}

    @router.delete("/schedules/{schedule_id}", status_code=204, summary="End one (operator)")
    async def drop_schedule(schedule_id: str, request: Request) -> None:
        acting = await operator(request, directory, "operator")
        await acting.schedules.drop(schedule_id)


def _add_mails(router: APIRouter, directory: Directory) -> None:
    @router.get("/mails", summary="Mails to be sent, and those held for the operator (viewer)")
    async def list_mails(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return {
            "waiting": [asdict(mail) for mail in await acting.outbox.waiting()],
            "held": [asdict(mail) for mail in await acting.outbox.held()],
        }

    @router.get("/mails/{mail_id}", summary="Address and text of a mail (owner)")
    async def show_mail(mail_id: str, request: Request, response: Response) -> dict[str, Any]:
        """For an operator who delivers it by hand. It holds a code or a link."""
        acting = await operator(request, directory, "owner")
        await acting.overview.note("mail_shown", mail_id[:64])
        email, message = await acting.delivery.show(mail_id)
        response.headers["Cache-Control"] = "no-store"
        return {"email": email, "subject": message.subject, "body": message.body}

    @router.post("/mails/{mail_id}/requeue", status_code=204, summary="Send it again (operator)")
    async def requeue_mail(mail_id: str, request: Request) -> None:
        acting = await operator(request, directory, "operator")
        await acting.outbox.requeue(mail_id)

    @router.post("/mails/{mail_id}/delivered", status_code=204, summary="Drop it (operator)")
    async def mail_delivered(mail_id: str, request: Request) -> None:
        acting = await operator(request, directory, "operator")
        await acting.outbox.delivered(mail_id)
