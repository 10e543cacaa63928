"""Joining the line, confirming, watching, leaving, erasing."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from waitlist.directory import Directory
from waitlist.errors import ProofInvalid, WatchersFull
from waitlist.line.join_request import JOIN_KEY_CHARS_MIN, JoinRequest
from waitlist.line.standing import public_state
from waitlist.line.watching import WatchBoard
from waitlist.proofs.proof_of_work import SolvedProof
from waitlist.routes.bounded_route import BoundedRoute
from waitlist.routes.credentials import CallerAddress, ticket_of
from waitlist.routes.line_bodies import (
    CodeStandingResponse,
    ConfirmResponse,
    JoinBody,
    JoinResponse,
    LeftResponse,
    StandingResponse,
    TicketBody,
    standing_fields,
)
from waitlist.routes.status_stream import StatusStream
from waitlist.terms import IDEMPOTENCY_KEY_CHARS_MAX

_TICKET_REFUSALS: dict[int | str, dict[str, str]] = {
    401: {"description": "ticket_invalid"},
    403: {"description": "ticket_insufficient"},
    410: {"description": "place_gone"},
}


def build_router(
    directory: Directory, board: WatchBoard, caller_address: CallerAddress
) -> APIRouter:
    router = APIRouter(prefix="/waitlist", route_class=BoundedRoute, tags=["waitlist"])
    _add_joining(router, directory, board, caller_address)
    _add_ticket_holders(router, directory, board)
    _add_watching(router, directory, board)
    return router


def _add_joining(
    router: APIRouter, directory: Directory, board: WatchBoard, caller_address: CallerAddress
) -> None:
    @router.get("/challenge", summary="A challenge to solve before joining")
    async def challenge(response: Response) -> dict[str, Any]:
        """As ALTCHA's widget reads it. Empty where no proof of work is wanted."""
        response.headers["Cache-Control"] = "no-store"
        proof = directory.proof_of_work
        return proof.challenge() if proof.wanted else {}

    @router.post(
        "/join",
        status_code=201,
        summary="Join the line",
        responses={
            400: {"description": "email_malformed, email_disposable, proof_invalid, …"},
            410: {"description": "place_gone: joined with this Idempotency-Key, and given up"},
            422: {"description": "idempotency_key_reused"},
            429: {"description": "too_many_joins"},
            503: {"description": "waitlist_paused or ledger_unavailable"},
        },
    )
    async def join(
        body: JoinBody,
        request: Request,
        response: Response,
        idempotency_key: Annotated[
            str,
            Header(
                max_length=IDEMPOTENCY_KEY_CHARS_MAX,
                description="The same request with the same key gives the same ticket for a day, "
                f"without another proof of work. At least {JOIN_KEY_CHARS_MIN} random characters: "
                "whoever has it has the ticket.",
            ),
        ] = "",
    ) -> JoinResponse:
        """A new place at the end, also for an address that has one: the answer tells nobody."""
        proof: SolvedProof | ProofInvalid | None
        try:
            proof = directory.proof_of_work.check(body.altcha)
        except ProofInvalid as refusal:
            if not idempotency_key:
                raise
            proof = refusal
        joined = await directory.entries.join(
            JoinRequest(
                email=body.email,
                locale=body.locale,
                referral=body.referral,
                note=body.note,
                consent=body.consent,
            ),
            network=caller_address(request),
            proof=proof,
            idempotency_key=idempotency_key,
        )
        if joined.repeated:
            standing = await board.standings.of(await directory.entries.read(joined.entry_id))
        else:
            standing = await board.standings.of_new(joined)
        response.headers["Cache-Control"] = "no-store"
        return JoinResponse(ticket=joined.ticket, **standing_fields(standing))


def _add_ticket_holders(router: APIRouter, directory: Directory, board: WatchBoard) -> None:
    @router.post("/confirm", summary="Confirm an address", responses=_TICKET_REFUSALS)
    async def confirm(body: TicketBody, response: Response) -> ConfirmResponse:
        """With the ticket of the mail's link. Answers with the place of the address."""
        entry, ticket = await directory.entries.confirm(directory.signer.read(body.ticket))
        standing = await board.standings.of(entry)
        response.headers["Cache-Control"] = "no-store"
        return ConfirmResponse(ticket=ticket, **standing_fields(standing))

    @router.post("/leave", summary="Give a place up", responses=_TICKET_REFUSALS)
    async def leave(body: TicketBody) -> LeftResponse:
        state = await directory.departures.leave(directory.signer.read(body.ticket))
        return LeftResponse(status=public_state(state))

    @router.post("/erase", summary="Leave, and erase what is personal", responses=_TICKET_REFUSALS)
    async def erase(body: TicketBody) -> LeftResponse:
        state = await directory.departures.erase(directory.signer.read(body.ticket))
        return LeftResponse(status=public_state(state))


def _add_watching(router: APIRouter, directory: Directory, board: WatchBoard) -> None:
    @router.get("/status", summary="Place and estimate", responses=_TICKET_REFUSALS)
    async def status(request: Request, response: Response) -> CodeStandingResponse:
        """With `Authorization: Bearer fgt-…`, or `?ticket=`."""
        ticket = ticket_of(request, directory)
        entry = await directory.entries.read(ticket.entry_id)
        standing = await board.standings.of(entry)
        response.headers["Cache-Control"] = "no-store"
        return CodeStandingResponse(
            code=directory.shown_code(entry) if ticket.owner else None, **standing_fields(standing)
        )

    @router.get(
        "/status/stream",
        summary="Place and estimate as they change",
        response_class=Response,
        responses={
            **_TICKET_REFUSALS,
            200: {"description": "Events `status`.", "content": {"text/event-stream": {}}},
            503: {"description": "watchers_full"},
        },
    )
    async def stream(request: Request) -> StatusStream:
        """Server-sent events. Ends after redeemed, expired and left."""
        ticket = ticket_of(request, directory)
        if not board.has_room():
            raise WatchersFull
        entry = await directory.entries.read(ticket.entry_id)
        standing = await board.standings.of(entry)
        return StatusStream(
            board,
            ticket.entry_id,
            standing,
            lambda told: StandingResponse(**standing_fields(told)).model_dump(mode="json"),
        )
