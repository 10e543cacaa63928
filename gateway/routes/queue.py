"""`GET /v1/queue`: where an account's own requests stand."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from gateway.auth import Authenticator, Caller
from gateway.errors import FlowUnavailable, Unavailable, retry_headers
from gateway.line.admission import Admission
from gateway.line.line_terms import AccountView
from gateway.line.ticket import Place


def build_router(authenticator: Authenticator, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["queue"])

    async def caller(request: Request) -> Caller:
        found = await authenticator.authenticate(request.scope["headers"])
        request.scope["state"]["caller"] = found
        return found

    @router.get("/v1/queue", summary="Your requests that wait or run")
    async def queue(asking: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        """Over all gateways and keys of the account. Position 1 is served next."""
        try:
            views = await admission.account_views(asking.account_id)
        except FlowUnavailable:
            raise Unavailable(
                "The line cannot be read at the moment; it goes on. Try again shortly.",
                code="flow_unavailable",
                headers=retry_headers(2),
            ) from None
        return JSONResponse({"object": "queue", "models": [_model(*told) for told in views]})

    return router


def _model(name: str, view: AccountView) -> dict[str, Any]:
    return {
        "model": name,
        "running": view.running,
        "waiting_everywhere": view.waiting_everywhere,
        "waiting": [_ticket(ticket_id, place) for ticket_id, place in view.places],
    }


def _ticket(ticket_id: str, place: Place) -> dict[str, Any]:
    eta = place.eta
    since = datetime.fromtimestamp(int(ticket_id.partition("-")[0]) / 1000, UTC)
    return {
        "position": place.position,
        "eta_s": None if eta is None else {"p50": round(eta.p50_s, 1), "p90": round(eta.p90_s, 1)},
        "waiting_since": since.isoformat(timespec="milliseconds"),
    }
