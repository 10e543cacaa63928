"""API keys of accounts: found, listed, made, rotated, revoked.

A key's id is the first 24 hexadecimal digits of its digest, so a record is found without an
index; the whole digest is compared then.
"""

from collections.abc import AsyncGenerator
from typing import Final

from waitlist.errors import (
    KeyMalformed,
    KeyRevoked,
    KeyUnknown,
    NotFound,
    RequestMalformed,
    TooManyKeys,
)
from waitlist.holders.revocations import Tombstones
from waitlist.proofs import tokens
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment, moment_or_none
from waitlist.storage.records import KeyListing, KeyRecord, NewKey, OwnKey, Revocation

NAME_CHARS_MAX: Final = 64
OVERLAP_S_MAX: Final = 30 * 86_400
# Live ones. A team's services get one each; an account that needs more is better off with two.
KEYS_PER_ACCOUNT_MAX: Final = 20
# Revoked ones included, newest first.
_KEYS_SHOWN_MAX = 200
# Measured on a loaded 2-core machine: a page of 200 keys holds the ledger for 0.9 ms (p99 1.2 ms).
_KEYS_PER_PAGE = 200
_ID_HEX_DIGITS = 24


class Keys:
    def __init__(self, ledger: ActingLedger, tombstones: Tombstones) -> None:
        self._ledger = ledger
        self._tombstones = tombstones

    async def find(self, api_key: str) -> KeyRecord | None:
        """The record of a key, live or not; None when there is none. Malformed: no I/O."""
        if not tokens.is_well_formed_key(api_key):
            return None
        key_digest = tokens.digest(api_key)
        key_id = key_id_of(key_digest)
        found = await self._ledger.run(
            "find_key", [redis_keys.key(key_id)], [key_digest, redis_keys.ACCOUNT_PREFIX]
        )
        if found is None:
            return None
        account_id, plan, revoked_at_ms, ends_at_ms = found
        ended = ends_at_ms is not None and int(ends_at_ms) <= self._ledger.now_ms()
        return KeyRecord(
            key_id=key_id,
            account_id=account_id,
            plan=plan,
            revoked=revoked_at_ms is not None or ended,
        )

    async def live(self, api_key: str) -> KeyRecord:
        """The record of a key that may be used.

        Raises:
            KeyMalformed, KeyUnknown, KeyRevoked.
        """
        if not tokens.is_well_formed_key(api_key):
            raise KeyMalformed
        record = await self.find(api_key)
        if record is None:
            raise KeyUnknown
        if record.revoked:
            raise KeyRevoked
        return record

    async def list_all(self) -> AsyncGenerator[KeyListing]:
        """Every key in the order of creation, page by page, also those made meanwhile."""
        last_number = "0"
        while True:
            last_number, rows = await self._ledger.run(
                "list_keys",
                [redis_keys.KEYS_BY_NUMBER],
                [last_number, _KEYS_PER_PAGE, redis_keys.KEY_PREFIX, redis_keys.ACCOUNT_PREFIX],
            )
            for key_id, account_id, email, plan, hint, created_at_ms, revoked_at_ms in rows:
                yield KeyListing(
                    key_id=key_id,
                    account_id=account_id,
                    email=email or "",
                    plan=plan,
                    hint=hint,
                    created_at=moment(created_at_ms),
                    revoked_at=moment_or_none(revoked_at_ms),
                )
            if len(rows) < _KEYS_PER_PAGE:
                return

    async def of_account(self, account_id: str) -> list[OwnKey]:
        """The newest keys of an account, newest first."""
        rows = await self._ledger.run(
            "list_account_keys",
            [redis_keys.account_keys(account_id)],
            [redis_keys.KEY_PREFIX, _KEYS_SHOWN_MAX],
        )
        return [
            OwnKey(
                key_id=key_id,
                hint=hint,
                name=name or "",
                created_at=moment(created_at_ms),
                revoked_at=moment_or_none(revoked_at_ms),
                ends_at=moment_or_none(ends_at_ms),
            )
            for key_id, hint, name, created_at_ms, revoked_at_ms, ends_at_ms in rows
        ]

    async def make(self, account_id: str, *, name: str = "") -> NewKey:
        """A further key of an account.

        Raises:
            RequestMalformed: the name is no line of at most 64 characters.
            NotFound: no such account, or a revoked one.
            TooManyKeys.
        """
        return await self._make(account_id, name=name, replaced="", overlap_s=0)

    async def rotate(
        self, account_id: str, key_id: str, *, overlap_s: float, name: str = ""
    ) -> NewKey:
        """A key in place of another, which goes on for `overlap_s` and ends then by itself.

        Raises:
            RequestMalformed: the overlap is below 0 or above 30 days, or the name is no line.
            NotFound: the account has no such key that is live and was not rotated before.
            TooManyKeys.
        """
        if not 0 <= overlap_s <= OVERLAP_S_MAX:
            raise RequestMalformed(
                f"overlap_s must be from 0 to {OVERLAP_S_MAX}.", param="overlap_s"
            )
        return await self._make(account_id, name=name, replaced=key_id, overlap_s=overlap_s)

    async def _make(self, account_id: str, *, name: str, replaced: str, overlap_s: float) -> NewKey:
        if len(name) > NAME_CHARS_MAX or not all(c.isprintable() for c in name):
            raise RequestMalformed(
                f"A key's name is one line of at most {NAME_CHARS_MAX} characters.", param="name"
            )
        api_key = tokens.new_api_key()
        key_digest = tokens.digest(api_key)
        key_id = key_id_of(key_digest)
        now_ms = self._ledger.now_ms()
        outcome = await self._ledger.run(
            "make_key",
            [
                redis_keys.account(account_id),
                redis_keys.account_keys(account_id),
                redis_keys.key(key_id),
                redis_keys.KEYS_BY_NUMBER,
                redis_keys.KEYS_LAST_NUMBER,
                redis_keys.AUDIT,
                redis_keys.key(replaced or key_id),
            ],
            [
                *(now_ms, self._ledger.actor, account_id, key_id, key_digest),
                *(tokens.key_hint(api_key), name, KEYS_PER_ACCOUNT_MAX, redis_keys.KEY_PREFIX),
                *(replaced, now_ms + round(overlap_s * 1000)),
            ],
        )
        if outcome == "too_many_keys":
            raise TooManyKeys(KEYS_PER_ACCOUNT_MAX)
        if outcome != "made":
            raise NotFound("account" if outcome == "account_unknown" else "live key")
        return NewKey(key_id=key_id, api_key=api_key)

    async def revoke(self, key_id: str, *, account_id: str = "") -> Revocation | None:
        """Revokes a key for good, or writes its tombstone again; None when there is no such key.

        With `account_id`, a key of another account counts as none. The ledger comes first. When
        flow cannot be written the revocation holds all the same, and `tombstone_error` of the
        result says so; calling again tries again.
        """
        return await self._revoke(key_id, account_id=account_id, key_digest="")

    async def revoke_leaked(self, api_key: str) -> Revocation | None:
        """Revokes a key that is shown; None when it is well formed but not ours.

        Raises:
            KeyMalformed: it is no key.
        """
        if not tokens.is_well_formed_key(api_key):
            raise KeyMalformed
        key_digest = tokens.digest(api_key)
        return await self._revoke(key_id_of(key_digest), account_id="", key_digest=key_digest)

    async def _revoke(self, key_id: str, *, account_id: str, key_digest: str) -> Revocation | None:
        found = await self._ledger.run(
            "revoke_key",
            [redis_keys.key(key_id), redis_keys.AUDIT],
            [
                *(self._ledger.now_ms(), self._ledger.actor, key_id),
                *(redis_keys.REVOCATIONS_CHANNEL, account_id, key_digest),
            ],
        )
        if found is None:
            return None
        owner_id, revoked_at_ms = found
        return Revocation(
            key_id=key_id,
            account_id=owner_id,
            revoked_at=moment(revoked_at_ms),
            tombstone_error=await self._tombstones.write(owner_id, key_id),
        )


def key_id_of(key_digest: str) -> str:
    return f"key_{key_digest[:_ID_HEX_DIGITS]}"
