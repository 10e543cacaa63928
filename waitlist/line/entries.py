"""The line: joining, confirming, reading.

Every join makes an entry of its own with a ticket of its own, whoever is on the list already, by
the same work and with the same answer. Where mail is set up, an entry is bound to its address only
by the link in the mail. If the address had a place before, that link hands out the old place's
ticket, and the new entry stays as it is until its time to confirm ends: a stranger who joins with
somebody's address cannot tell whether it is known.

Without mail nobody can prove an address, so every entry waits at once and referrals count nothing.

An answer may get lost on its way. A join that came with an Idempotency-Key is recognised by its
entry's id, an HMAC of that key: whoever sends it again gets the same ticket, for a day, without
another proof of work and without being counted again. The key is as good as the ticket meanwhile,
so it must be one that nobody guesses.
"""

from dataclasses import dataclass
from typing import Final

from waitlist.errors import (
    PlaceGone,
    ProofInvalid,
    TicketInsufficient,
)
from waitlist.line.join_request import LOCALES, JoinRequest, check_join_key, refusal_of
from waitlist.proofs.addresses import email_digest, mailbox
from waitlist.proofs.proof_of_work import SolvedProof
from waitlist.proofs.tickets import Ticket, TicketSigner, new_entry_id
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, day_of, moment, moment_or_none
from waitlist.storage.records import Entry, Joined

# A page of 200 entries holds the ledger for about 0.5 ms.
ENTRIES_PER_CALL: Final = 200
# A client that gives up after a day starts anew anyway.
JOIN_REPEATED_S_MAX: Final = 86_400
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class LineRules:
    """What holds for everybody in line. Set by WaitlistSettings."""

    confirm_by_mail: bool = False
    confirm_life_s: float = 2 * 86_400
    joins_per_network_hour: int = 30
    mails_per_mailbox_day: int = 3
    referral_places: int = 100
    referrals_max: int = 5


class Entries:
    def __init__(self, ledger: ActingLedger, signer: TicketSigner, rules: LineRules) -> None:
        self._ledger = ledger
        self._signer = signer
        self._rules = rules

    async def join(
        self,
        request: JoinRequest,
        *,
        network: str,
        proof: SolvedProof | ProofInvalid | None,
        idempotency_key: str = "",
    ) -> Joined:
        """A new place at the end of the line. `network` is the caller's address.

        With `idempotency_key`, the same call gives the same place again for a day. A proof that was
        refused is handed in with it, since it may have been good when the answer got lost.

        Raises:
            EmailMalformed, EmailDisposable, RequestMalformed: told without asking the ledger.
            ProofInvalid: the proof was used before, or refused.
            TooManyJoins: the network had its share for this hour.
            IdempotencyKeyReused, PlaceGone: another request came with this key, or its place was
                given up.
            WaitlistPaused.
        """
        email = request.checked_email()
        entry_id = self._entry_id(idempotency_key, email)
        outcome, number = await self._join(
            entry_id, email, request, network, proof, idempotent=bool(idempotency_key)
        )
        if isinstance(proof, ProofInvalid) and outcome == "proof_refused":
            raise proof
        if outcome not in ("joined", "repeated"):
            raise refusal_of(outcome, retry_after_ms=number)
        confirmed = not self._rules.confirm_by_mail
        ticket = (
            self._signer.owner_ticket(entry_id)
            if confirmed
            else self._signer.watch_ticket(entry_id)
        )
        return Joined(entry_id, ticket, number, confirmed, repeated=outcome == "repeated")

    def _entry_id(self, idempotency_key: str, email: str) -> str:
        if not idempotency_key:
            return new_entry_id()
        check_join_key(idempotency_key, email)
        return self._signer.entry_id_of_key(
            idempotency_key, confirm_by_mail=self._rules.confirm_by_mail
        )

    async def _join(
        self,
        entry_id: str,
        email: str,
        request: JoinRequest,
        network: str,
        proof: SolvedProof | ProofInvalid | None,
        *,
        idempotent: bool,
    ) -> tuple[str, int]:
        rules = self._rules
        solved = proof if isinstance(proof, SolvedProof) else None
        proof_ends = "refused" if isinstance(proof, ProofInvalid) else ""
        now_ms = self._ledger.now_ms()
        confirm_by_ms = now_ms + round(rules.confirm_life_s * 1000) if rules.confirm_by_mail else ""
        bucket, field = redis_keys.addresses(email_digest(email))
        outcome, number = await self._ledger.run(
            "join",
            [
                redis_keys.entry(entry_id),
                redis_keys.LINE,
                redis_keys.LINE_LAST_NUMBER,
                redis_keys.PENDING,
                redis_keys.OUTBOX,
                redis_keys.network_joins(self._signer.network_tag(network)),
                redis_keys.mailbox_joins(self._signer.mailbox_tag(mailbox(email))),
                redis_keys.spent_proof(solved.digest if solved else ""),
                redis_keys.PAUSES,
                redis_keys.statistics(day_of(now_ms)),
                bucket,
            ],
            [
                *(now_ms, entry_id, email, "" if request.locale == LOCALES[0] else request.locale),
                *(request.note, "1" if request.consent else "", request.referral, confirm_by_ms),
                *(rules.joins_per_network_hour, _HOUR_MS, rules.mails_per_mailbox_day, _DAY_MS),
                *(solved.expires_at_ms if solved else proof_ends, field),
                JOIN_REPEATED_S_MAX * 1000 if idempotent else "",
            ],
        )
        return outcome, number

    async def confirm(self, ticket: Ticket) -> tuple[Entry, str]:
        """Binds the address to its place: this one, or the one that it had before.

        Returns the entry of that place and the ticket that may do everything with it.

        Raises:
            TicketInsufficient: the ticket is not the one of the mail's link.
            PlaceGone: the time to confirm is over.
        """
        if not ticket.owner:
            raise TicketInsufficient
        entry = await self.read(ticket.entry_id)
        if entry.email is None:
            raise PlaceGone
        outcome, entry_id = await self._confirm(entry, entry.email)
        if outcome == "gone":
            raise PlaceGone
        return await self.read(entry_id), self._signer.owner_ticket(entry_id)

    async def _confirm(self, entry: Entry, email: str) -> tuple[str, str]:
        address_digest = email_digest(email)
        bucket, field = redis_keys.addresses(address_digest)
        outcome, entry_id = await self._ledger.run(
            "confirm",
            [
                redis_keys.entry(entry.entry_id),
                bucket,
                redis_keys.PENDING,
                redis_keys.LINE,
                redis_keys.statistics(day_of(self._ledger.now_ms())),
                redis_keys.email(address_digest),
            ],
            [
                *(entry.entry_id, field, redis_keys.ENTRY_PREFIX),
                *(await self._referrer_that_counts(entry, email), self._rules.referral_places),
                self._rules.referrals_max,
            ],
        )
        return outcome, entry_id

    async def _referrer_that_counts(self, entry: Entry, email: str) -> str:
        """Whose link was followed, unless that is the same mailbox. Its address never changes."""
        if entry.referred_by is None:
            return ""
        [referrer] = await self.read_many([entry.referred_by])
        if referrer is None or referrer.email is None:
            return ""
        return "" if mailbox(referrer.email) == mailbox(email) else entry.referred_by

    async def read(self, entry_id: str) -> Entry:
        """Raises PlaceGone when there is no such entry any longer."""
        [entry] = await self.read_many([entry_id])
        if entry is None:
            raise PlaceGone
        return entry

    async def read_many(self, entry_ids: list[str]) -> list[Entry | None]:
        """Entries in the order asked for, at most ENTRIES_PER_CALL; None where there is none."""
        rows = await self._ledger.run(
            "read_entries",
            [redis_keys.LINE, redis_keys.INVITED],
            [redis_keys.ENTRY_PREFIX, *entry_ids],
        )
        return [
            None if row is None else _entry(entry_id, row)
            for entry_id, row in zip(entry_ids, rows, strict=True)
        ]


def _entry(entry_id: str, row: list[str | int | None]) -> Entry:
    state, ahead, at, email, locale, by, referred, expires, batch, invite, mute, note, consent = row
    return Entry(
        entry_id=entry_id,
        state=str(state),
        ahead=None if ahead is None else int(ahead),
        joined_at=moment(at or 0),
        email=None if email is None else str(email),
        locale=str(locale or LOCALES[0]),
        referred_by=None if by is None else str(by),
        referred=int(referred or 0),
        invite_expires_at=moment_or_none(expires),
        batch_id=None if batch is None else str(batch),
        invite_id=None if invite is None else str(invite),
        mute=mute is not None,
        note=str(note or ""),
        consent=consent is not None,
    )
