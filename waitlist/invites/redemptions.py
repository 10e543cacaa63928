"""Redeeming: from a code to an account with a key, exactly once.

An address has one account: a second code for it is refused with EmailHasAccount and stays good.
(Handing the existing account out to whoever names its address would be worse; and only the holder
of a good code can learn that the address has one. How many addresses a code, or a network, may try
in vain is bounded.)
"""

import secrets
from collections.abc import Callable
from typing import Final

from waitlist.errors import (
    CampaignPaused,
    CodeBound,
    CodeExpired,
    CodeRevoked,
    CodeUnknown,
    CodeUsed,
    EmailHasAccount,
    IdempotencyKeyReused,
    TooManyRefusals,
    WaitlistError,
)
from waitlist.holders.keys import key_id_of
from waitlist.invites.codes import invite_id_of
from waitlist.invites.sealed_answers import AnswerSeal
from waitlist.proofs import tokens
from waitlist.proofs.addresses import email_digest, normalise_email
from waitlist.proofs.tickets import TicketSigner
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, day_of
from waitlist.storage.records import Redemption

# A client that gives up after a day starts anew anyway.
ANSWER_LIFE_S: Final = 86_400
# Enough for everybody who mistypes an address; a list of addresses takes years.
REFUSALS_PER_CODE_DAY: Final = 10
REFUSALS_PER_NETWORK_HOUR: Final = 30
_HOUR_MS: Final = 3_600_000

_ID_HEX_DIGITS = 24

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


class Redemptions:
    def __init__(
        self,
        ledger: ActingLedger,
        signer: TicketSigner,
        *,
        refusals_per_network_hour: int = REFUSALS_PER_NETWORK_HOUR,
    ) -> None:
        self._ledger = ledger
        self._signer = signer
        self._refusals_per_network_hour = refusals_per_network_hour

    async def redeem(
        self, code: str, email: str, *, idempotency_key: str = "", network: str = ""
    ) -> Redemption:
        """Turns a code into an account with a key, once, however many try at the same time.

        With `idempotency_key`, the same call gives the same answer again for a day. `network` is
        the caller's address, whose refusals count where the waitlist has a secret.

        Raises:
            CodeMalformed, EmailMalformed, RequestMalformed: told without asking the ledger.
            CodeUnknown, CodeUsed, CodeRevoked, CodeExpired, CodeBound, CampaignPaused,
            EmailHasAccount, IdempotencyKeyReused: nothing was changed.
            TooManyRefusals: the code, or the network, was refused too often for an address.
            LedgerUnavailable: after a deadline the code may still become used; the same call with
                the same idempotency key tells.
        """
        code = tokens.normalise_code(code)
        address = normalise_email(email)
        address_digest = email_digest(address)
        seal = AnswerSeal.of(idempotency_key, code, address_digest) if idempotency_key else None
        redemption = _new_redemption()
        answer = _answer_of(redemption)
        outcome, *details = await self._redeem(code, address, redemption, seal, answer, network)
        if outcome == "redeemed":
            return _redemption_of(answer, details[0])
        if outcome == "replayed" and seal is not None:
            return _redemption_of(seal.open(details[1]), details[0])
        if outcome == "too_many_refusals":
            raise TooManyRefusals(max(1, -(-int(details[1]) // 1000)))
        raise _REFUSALS[outcome]()

    async def _redeem(
        self,
        code: str,
        address: str,
        redemption: "_Ids",
        seal: AnswerSeal | None,
        answer: dict[str, str],
        network: str,
    ) -> list[str]:
        code_digest = tokens.digest(code)
        invite_id = invite_id_of(code_digest)
        address_digest = email_digest(address)
        bucket, field = redis_keys.addresses(address_digest)
        account_id, key_id, key_digest, api_key = redemption
        now_ms = self._ledger.now_ms()
        network_tag = self._signer.network_tag(network) if network and self._signer.usable else ""
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
                redis_keys.network_refusals(network_tag),
                redis_keys.code_refusals(invite_id),
            ],
            [
                *(now_ms, self._ledger.actor, invite_id, code_digest, account_id),
                *(address, address_digest, key_id, key_digest, tokens.key_hint(api_key)),
                *((seal.fingerprint, seal.seal(answer)) if seal else ("", "")),
                *(ANSWER_LIFE_S * 1000, field, redis_keys.ACCOUNT_PREFIX),
                *(redis_keys.ACCOUNT_GUESTS_PREFIX, redis_keys.ENTRY_PREFIX),
                redis_keys.CAMPAIGN_PREFIX,
                *(self._refusals_per_network_hour if network_tag else "", _HOUR_MS),
                *(REFUSALS_PER_CODE_DAY, 24 * _HOUR_MS),
            ],
        )
        return outcome


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
