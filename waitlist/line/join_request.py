"""What a person sends to join, checked without the ledger, and why a join may get no place."""

from dataclasses import dataclass
from typing import Final

from waitlist.errors import (
    IdempotencyKeyReused,
    PlaceGone,
    ProofInvalid,
    RequestMalformed,
    TooManyJoins,
    WaitlistError,
    WaitlistPaused,
)
from waitlist.proofs.addresses import normalise_email, refuse_disposable
from waitlist.proofs.tickets import is_entry_id
from waitlist.terms import check_idempotency_key, check_note

LOCALES: Final = ("en", "zh")
# 96 bits as base64, where they are random. A UUID has 36 characters.
JOIN_KEY_CHARS_MIN: Final = 16


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a person sends. Nothing of it is trusted."""

    email: str
    locale: str = "en"
    referral: str = ""
    note: str = ""
    consent: bool = False

    def checked_email(self) -> str:
        """The address as mail can be sent to it.

        Raises:
            EmailMalformed, EmailDisposable, RequestMalformed: a field is not usable.
        """
        email = normalise_email(self.email)
        refuse_disposable(email)
        check_note(self.note)
        if self.locale not in LOCALES:
            raise RequestMalformed(f"locale must be one of {', '.join(LOCALES)}.", param="locale")
        if self.referral and not is_entry_id(self.referral):
            raise RequestMalformed("This is no referral code.", param="referral")
        return email


def check_join_key(idempotency_key: str, email: str) -> None:
    """Raises RequestMalformed where a stranger could guess the key: it is worth the ticket."""
    check_idempotency_key(idempotency_key, chars_min=JOIN_KEY_CHARS_MIN)
    if email.casefold() in idempotency_key.casefold():
        raise RequestMalformed(
            "Idempotency-Key must be random, a UUID for example, and not made of the address.",
            param="Idempotency-Key",
        )


def refusal_of(outcome: str, *, retry_after_ms: int) -> WaitlistError:
    """What the script's refusal of a join is told as."""
    if outcome == "too_many_joins":
        return TooManyJoins(max(1, -(-retry_after_ms // 1000)))
    if outcome == "proof_used":
        return ProofInvalid("was used before")
    refusals = {
        "waitlist_paused": WaitlistPaused,
        "place_gone": PlaceGone,
        "idempotency_key_reused": IdempotencyKeyReused,
    }
    return refusals[outcome]()
