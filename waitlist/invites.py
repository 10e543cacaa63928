"""Invite codes: made by operators and by accounts that may hand some on, redeemed once.

An invite's id is the first 24 hexadecimal digits of its code's digest, so a record is found
without an index; the whole digest is compared then. An address has one account: a second code for
it is refused with EmailHasAccount and stays good. (Handing the existing account out to whoever
names its address would be worse; and only the holder of a good code can learn that the address
has one.)
"""

import secrets
from collections.abc import Callable
from typing import Final

from waitlist import redis_keys, tokens
from waitlist.acting_ledger import ActingLedger, day_of, moment
from waitlist.addresses import email_digest, normalise_email
from waitlist.errors import (
    CampaignPaused,
    CodeBound,
    CodeExpired,
    CodeRevoked,
    CodeUnknown,
    CodeUsed,
    EmailHasAccount,
    IdempotencyKeyReused,
    NoInvitesLeft,
    NotFound,
    RequestMalformed,
    WaitlistError,
)
from waitlist.keys import key_id_of
from waitlist.records import Invite, Redemption
from waitlist.sealed_answers import AnswerSeal
from waitlist.terms import PLAN_DEFAULT, check_invite_life, check_note, check_plan

INVITES_MAX: Final = 100_000
USES_MAX: Final = 1_000_000
# A friend's code: long enough for a holiday, short enough that a list of old ones is worth nothing.
SHARED_INVITE_LIFE_S: Final = 30 * 86_400
# A client that gives up after a day starts anew anyway.
ANSWER_LIFE_S: Final = 86_400

_ID_HEX_DIGITS = 24
# Measured on a loaded 2-core machine: 100 invites hold the ledger for 0.4 ms (p99 1.4 ms).
_INVITES_PER_CALL = 100

_REFUSALS: dict[str, Callable[[], WaitlistError]] = {
    "code_unknown": CodeUnknown,
    "code_used": CodeUsed,
    "code_revoked": CodeRevoked,
    "code_expired": CodeExpired,
    "code_bound": CodeBound,
    "campaign_paused": CampaignPaused,
    "email_has_account": EmailHasAccount,
    "idempotency_key_reused": IdempotencyKeyReused,
}


class Invites:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def create(
        self,
        count: int,
        plan: str = PLAN_DEFAULT,
        *,
        note: str = "",
        expires_in_s: float | None = None,
        uses: int = 1,
        campaign: str = "",
    ) -> list[Invite]:
        """Makes `count` codes, each good for `uses` accounts on `plan`.

        Where the ledger fails half way, codes that were made by then exist but were never shown.

        Raises:
            RequestMalformed: count, plan, note, expires_in_s or uses is out of its bounds.
            NotFound: no such campaign.
        """
        _check_invite_terms(count, plan, note, expires_in_s, uses)
        now_ms = self._ledger.now_ms()
        expires_at_ms = None if expires_in_s is None else now_ms + round(expires_in_s * 1000)
        invites: list[Invite] = []
        while len(invites) < count:
            codes = [tokens.new_code() for _ in range(min(_INVITES_PER_CALL, count - len(invites)))]
            digests = [tokens.digest(code) for code in codes]
            ids = [invite_id_of(code_digest) for code_digest in digests]
            made = await self._ledger.run(
                "create_invites",
                [
                    redis_keys.AUDIT,
                    redis_keys.campaign(campaign),
                    *map(redis_keys.invite, ids),
                ],
                [
                    *(now_ms, self._ledger.actor, secrets.token_hex(8), plan, note),
                    *("" if expires_at_ms is None else expires_at_ms, uses, campaign, *digests),
                ],
            )
            if made < 0:
                raise NotFound("campaign")
            invites += (
                Invite(
                    code=code,
                    invite_id=invite_id,
                    plan=plan,
                    created_at=moment(now_ms),
                    expires_at=None if expires_at_ms is None else moment(expires_at_ms),
                )
                for code, invite_id in zip(codes, ids, strict=True)
            )
        return invites

    async def revoke(self, code: str) -> None:
        """Withdraws a code that is not used up; does nothing when that was done before.

        Raises:
            CodeMalformed, CodeUnknown, CodeUsed.
        """
        code_digest = tokens.digest(tokens.normalise_code(code))
        invite_id = invite_id_of(code_digest)
        outcome = await self._ledger.run(
            "revoke_invite",
            [redis_keys.invite(invite_id), redis_keys.AUDIT],
            [self._ledger.now_ms(), self._ledger.actor, invite_id, code_digest],
        )
        if outcome != "revoked":
            raise _REFUSALS[outcome]()

    async def redeem(self, code: str, email: str, *, idempotency_key: str = "") -> Redemption:
        """Turns a code into an account with a key, once, however many try at the same time.

        With `idempotency_key`, the same call gives the same answer again for a day.

        Raises:
            CodeMalformed, EmailMalformed, RequestMalformed: told without asking the ledger.
            CodeUnknown, CodeUsed, CodeRevoked, CodeExpired, CodeBound, CampaignPaused,
            EmailHasAccount, IdempotencyKeyReused: nothing was changed.
            LedgerUnavailable: after a deadline the code may still become used; the same call with
                the same idempotency key tells.
        """
        code = tokens.normalise_code(code)
        address = normalise_email(email)
        address_digest = email_digest(address)
        seal = AnswerSeal.of(idempotency_key, code, address_digest) if idempotency_key else None
        redemption = _new_redemption()
        answer = _answer_of(redemption)
        outcome, *details = await self._redeem(code, address, redemption, seal, answer)
        if outcome == "redeemed":
            return _redemption_of(answer, details[0])
        if outcome == "replayed" and seal is not None:
            return _redemption_of(seal.open(details[1]), details[0])
        raise _REFUSALS[outcome]()

    async def _redeem(
        self,
        code: str,
        address: str,
        redemption: "_Ids",
        seal: AnswerSeal | None,
        answer: dict[str, str],
    ) -> list[str]:
        code_digest = tokens.digest(code)
        invite_id = invite_id_of(code_digest)
        address_digest = email_digest(address)
        bucket, field = redis_keys.addresses(address_digest)
        account_id, key_id, key_digest, api_key = redemption
        now_ms = self._ledger.now_ms()
        outcome: list[str] = await self._ledger.run(
            "redeem",
            [
                redis_keys.invite(invite_id),
                redis_keys.email(address_digest),
                redis_keys.account(account_id),
                redis_keys.key(key_id),
                redis_keys.KEYS_BY_NUMBER,
                redis_keys.KEYS_LAST_NUMBER,
                redis_keys.AUDIT,
                redis_keys.account_keys(account_id),
                redis_keys.answer(seal.name if seal else ""),
                redis_keys.statistics(day_of(now_ms)),
                bucket,
                redis_keys.LINE,
                redis_keys.INVITED,
            ],
            [
                *(now_ms, self._ledger.actor, invite_id, code_digest, account_id),
                *(address, address_digest, key_id, key_digest, tokens.key_hint(api_key)),
                *((seal.fingerprint, seal.seal(answer)) if seal else ("", "")),
                *(ANSWER_LIFE_S * 1000, field, redis_keys.ACCOUNT_PREFIX),
                *(redis_keys.ACCOUNT_GUESTS_PREFIX, redis_keys.ENTRY_PREFIX),
                redis_keys.CAMPAIGN_PREFIX,
            ],
        )
        return outcome

    async def share(self, account_id: str) -> tuple[Invite, int]:
        """One of the codes that an account may hand on, and how many it has left.

        Raises:
            NotFound: no such account, or a revoked one.
            NoInvitesLeft.
        """
        code = tokens.new_code()
        code_digest = tokens.digest(code)
        invite_id = invite_id_of(code_digest)
        now_ms = self._ledger.now_ms()
        expires_at_ms = now_ms + SHARED_INVITE_LIFE_S * 1000
        outcome, left = await self._ledger.run(
            "share_invite",
            [
                redis_keys.account(account_id),
                redis_keys.account_invites(account_id),
                redis_keys.invite(invite_id),
                redis_keys.AUDIT,
            ],
            [
                *(now_ms, self._ledger.actor, account_id, invite_id, code_digest),
                *(PLAN_DEFAULT, expires_at_ms),
            ],
        )
        if outcome == "no_invites_left":
            raise NoInvitesLeft
        if outcome != "shared":
            raise NotFound("account")
        invite = Invite(
            code=code,
            invite_id=invite_id,
            plan=PLAN_DEFAULT,
            created_at=moment(now_ms),
            expires_at=moment(expires_at_ms),
        )
        return invite, left


_Ids = tuple[str, str, str, str]


def _new_redemption() -> _Ids:
    """Account id, key id, digest of the key and the key, drawn anew for each attempt."""
    api_key = tokens.new_api_key()
    key_digest = tokens.digest(api_key)
    account_id = f"acct_{secrets.token_hex(_ID_HEX_DIGITS // 2)}"
    return account_id, key_id_of(key_digest), key_digest, api_key


def _answer_of(ids: _Ids) -> dict[str, str]:
    account_id, key_id, _, api_key = ids
    return {"account_id": account_id, "key_id": key_id, "api_key": api_key}


def _redemption_of(answer: dict[str, str], plan: str) -> Redemption:
    return Redemption(
        account_id=answer["account_id"],
        key_id=answer["key_id"],
        plan=plan,
        api_key=answer["api_key"],
    )


def _check_invite_terms(
    count: int, plan: str, note: str, expires_in_s: float | None, uses: int
) -> None:
    if not 1 <= count <= INVITES_MAX:
        raise RequestMalformed(f"count must be from 1 to {INVITES_MAX}.", param="count")
    if not 1 <= uses <= USES_MAX:
        raise RequestMalformed(f"uses must be from 1 to {USES_MAX}.", param="uses")
    check_plan(plan)
    check_note(note)
    if expires_in_s is not None:
        check_invite_life(expires_in_s)


def invite_id_of(code_digest: str) -> str:
    return f"inv_{code_digest[:_ID_HEX_DIGITS]}"
