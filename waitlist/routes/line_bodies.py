"""What people in line send, and what they are told."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from waitlist.line.standing import PublicState, Standing
from waitlist.proofs.addresses import EMAIL_CHARS_MAX
from waitlist.proofs.proof_of_work import PROOF_CHARS_MAX
from waitlist.proofs.tickets import TICKET_CHARS_MAX
from waitlist.routes.bounded_route import StrictBody
from waitlist.terms import NOTE_CHARS_MAX

TicketText = Annotated[str, Field(min_length=1, max_length=TICKET_CHARS_MAX)]


class JoinBody(StrictBody):
    email: Annotated[
        str,
        Field(
            min_length=3,
            max_length=EMAIL_CHARS_MAX,
            examples=["ada@example.com"],
            json_schema_extra={"format": "email"},
        ),
    ]
    locale: Annotated[str, Field(max_length=8, description="en or zh: of the mails.")] = "en"
    referral: Annotated[
        str, Field(max_length=32, description="The referral code of who told you.")
    ] = ""
    note: Annotated[str, Field(max_length=NOTE_CHARS_MAX, description="For the operator.")] = ""
    consent: Annotated[
        bool, Field(description="Whether your later use may be kept for research.")
    ] = False
    altcha: Annotated[
        str,
        Field(
            max_length=PROOF_CHARS_MAX,
            description="The solved challenge of GET /waitlist/challenge, as ALTCHA's widget "
            "gives it.",
        ),
    ] = ""


class TicketBody(StrictBody):
    ticket: TicketText


class EstimateResponse(BaseModel):
    p50_s: int
    p90_s: int


class StandingResponse(BaseModel):
    status: PublicState
    confirmed: bool
    place: int | None = Field(description="1 is next. Null outside the line.")
    ahead: int | None
    estimate: EstimateResponse | None = Field(
        description="Seconds until it is your turn: as likely earlier as later, and 9 times of 10 "
        "earlier. Null: not known."
    )
    releasing_paused: bool
    referral_code: str = Field(description="For `referral` of people whom you tell.")
    referred: int = Field(description="People who came by it and count.")
    invite_expires_at: datetime | None


class JoinResponse(StandingResponse):
    ticket: str = Field(description="The way back to this place. Keep it.")


class ConfirmResponse(StandingResponse):
    ticket: str = Field(
        description="The ticket of the address's place, which may be an older one than the one "
        "just joined."
    )


class CodeStandingResponse(StandingResponse):
    code: str | None = Field(
        description="The invite code, where no mail server is set up to send it."
    )


class LeftResponse(BaseModel):
    status: PublicState


def standing_fields(standing: Standing) -> dict[str, Any]:
    """The fields of StandingResponse."""
    estimate = standing.estimate
    return {
        "status": standing.state,
        "confirmed": standing.confirmed,
        "place": standing.place,
        "ahead": standing.ahead,
        "estimate": None
        if estimate is None
        else EstimateResponse(p50_s=estimate.p50_s, p90_s=estimate.p90_s),
        "releasing_paused": standing.releasing_paused,
        "referral_code": standing.referral_code,
        "referred": standing.referred,
        "invite_expires_at": standing.invite_expires_at,
    }
