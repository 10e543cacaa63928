"""Invites, accounts and keys: everything that can be done with them.

    async with open_directory(ledger_url, flow_url, actor="cli:root") as directory:
        invites = await directory.create_invites(3, plan="free")

A key's id is the first 24 hexadecimal digits of its digest, an invite's id those of its code, so
a record is found without an index; the whole digest is compared then. An address has one account:
a second code for it is refused with EmailHasAccount and stays good. (Handing the existing account
out to whoever names its address would be worse; and only the holder of a good code can learn that
the address has one.)
"""

import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from waitlist import redis_keys, tokens
from waitlist.addresses import email_digest, normalise_email
from waitlist.errors import (
    CodeExpired,
    CodeRevoked,
    CodeUnknown,
    CodeUsed,
    EmailHasAccount,
    RequestMalformed,
    WaitlistError,
)
from waitlist.ledger import Ledger
from waitlist.records import Invite, KeyListing, KeyRecord, Redemption, Revocation
from waitlist.revocations import Tombstones

PLAN_DEFAULT: Final = "free"
INVITES_MAX: Final = 100_000
INVITE_LIFE_S_MAX: Final = 10 * 365 * 86_400
NOTE_CHARS_MAX: Final = 200

_PLAN_FORM = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_ID_HEX_DIGITS = 24
# Measured on a loaded 2-core machine: 100 invites hold the ledger for 0.4 ms (p99 1.4 ms), a page
# of 200 keys for 0.9 ms (p99 1.2 ms).
_INVITES_PER_CALL = 100
_KEYS_PER_PAGE = 200

_REFUSALS: dict[str, Callable[[], WaitlistError]] = {
    "code_unknown": CodeUnknown,
    "code_used": CodeUsed,
    "code_revoked": CodeRevoked,
    "code_expired": CodeExpired,
    "email_has_account": EmailHasAccount,
}


class Directory:
    """The invites, accounts and keys of one ledger.

    Every method raises LedgerUnavailable when the ledger is gone, too slow or refuses, and
    LedgerIncompatible when another version wrote it.
    """

    def __init__(
        self, ledger: Ledger, tombstones: Tombstones, *, clock: Callable[[], float], actor: str
    ) -> None:
        """`clock` gives seconds since 1970; `actor` is who the audit names."""
        self._ledger = ledger
        self._tombstones = tombstones
        self._clock = clock
        self._actor = actor

    async def ping(self) -> None:
        """Returns when the ledger answers."""
        await self._ledger.ping()

    async def create_invites(
        self,
        count: int,
        plan: str = PLAN_DEFAULT,
        *,
        note: str = "",
        expires_in_s: float | None = None,
    ) -> list[Invite]:
        """Makes `count` codes, each good for one account on `plan`.

        Where the ledger fails half way, codes that were made by then exist but were never shown.

        Raises:
            RequestMalformed: count, plan, note or expires_in_s is out of its bounds.
        """
        _check_invite_terms(count, plan, note, expires_in_s)
        now_ms = self._now_ms()
        expires_at_ms = None if expires_in_s is None else now_ms + round(expires_in_s * 1000)
        invites: list[Invite] = []
        while len(invites) < count:
            codes = [tokens.new_code() for _ in range(min(_INVITES_PER_CALL, count - len(invites)))]
            digests = [tokens.digest(code) for code in codes]
            ids = [_invite_id(code_digest) for code_digest in digests]
            expiry = "" if expires_at_ms is None else expires_at_ms
            await self._ledger.run(
                "create_invites",
                [redis_keys.AUDIT, *map(redis_keys.invite, ids)],
                [now_ms, self._actor, secrets.token_hex(8), plan, note, expiry, *digests],
            )
            invites += (
                Invite(
                    code=code,
                    invite_id=invite_id,
                    plan=plan,
                    created_at=_moment(now_ms),
                    expires_at=None if expires_at_ms is None else _moment(expires_at_ms),
                )
                for code, invite_id in zip(codes, ids, strict=True)
            )
        return invites

    async def revoke_invite(self, code: str) -> None:
        """Withdraws a code that was not redeemed; does nothing when that was done before.

        Raises:
            CodeMalformed, CodeUnknown, CodeUsed.
        """
        code_digest = tokens.digest(tokens.normalise_code(code))
        invite_id = _invite_id(code_digest)
        outcome = await self._ledger.run(
            "revoke_invite",
            [redis_keys.invite(invite_id), redis_keys.AUDIT],
            [self._now_ms(), self._actor, invite_id, code_digest],
        )
        if outcome != "revoked":
            raise _REFUSALS[outcome]()

    async def redeem(self, code: str, email: str) -> Redemption:
        """Turns a code into an account with a key, once, however many try at the same time.

        Raises:
            CodeMalformed, EmailMalformed: told without asking the ledger.
            CodeUnknown, CodeUsed, CodeRevoked, CodeExpired, EmailHasAccount: nothing was changed.
            LedgerUnavailable: after a deadline the code may still become used.
        """
        code_digest = tokens.digest(tokens.normalise_code(code))
        address = normalise_email(email)
        api_key = tokens.new_api_key()
        key_digest = tokens.digest(api_key)
        key_id = _key_id(key_digest)
        account_id = f"acct_{secrets.token_hex(_ID_HEX_DIGITS // 2)}"
        invite_id = _invite_id(code_digest)
        address_digest = email_digest(address)
        outcome, *details = await self._ledger.run(
            "redeem",
            [
                redis_keys.invite(invite_id),
                redis_keys.email(address_digest),
                redis_keys.account(account_id),
                redis_keys.key(key_id),
                redis_keys.KEYS_BY_NUMBER,
                redis_keys.KEYS_LAST_NUMBER,
                redis_keys.AUDIT,
            ],
            [
                *(self._now_ms(), self._actor, invite_id, code_digest, account_id),
                *(address, address_digest, key_id, key_digest, tokens.key_hint(api_key)),
            ],
        )
        if outcome != "redeemed":
            raise _REFUSALS[outcome]()
        return Redemption(account_id=account_id, key_id=key_id, plan=details[0], api_key=api_key)

    async def find_key(self, api_key: str) -> KeyRecord | None:
        """The record of a key, revoked or not; None when there is none. Malformed: no I/O."""
        if not tokens.is_well_formed_key(api_key):
            return None
        key_digest = tokens.digest(api_key)
        key_id = _key_id(key_digest)
        found = await self._ledger.run(
            "find_key", [redis_keys.key(key_id)], [key_digest, redis_keys.ACCOUNT_PREFIX]
        )
        if found is None:
            return None
        account_id, plan, revoked_at_ms = found
        return KeyRecord(
            key_id=key_id, account_id=account_id, plan=plan, revoked=revoked_at_ms is not None
        )

    async def list_keys(self) -> AsyncGenerator[KeyListing]:
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
                    email=email,
                    plan=plan,
                    hint=hint,
                    created_at=_moment(int(created_at_ms)),
                    revoked_at=None if revoked_at_ms is None else _moment(int(revoked_at_ms)),
                )
            if len(rows) < _KEYS_PER_PAGE:
                return

    async def revoke_key(self, key_id: str) -> Revocation | None:
        """Revokes a key for good, or writes its tombstone again; None when there is no such key.

        The ledger comes first. When flow cannot be written the revocation holds all the same, and
        `tombstone_error` of the result says so; calling again tries again.
        """
        found = await self._ledger.run(
            "revoke_key",
            [redis_keys.key(key_id), redis_keys.AUDIT],
            [self._now_ms(), self._actor, key_id, redis_keys.REVOCATIONS_CHANNEL],
        )
        if found is None:
            return None
        account_id, revoked_at_ms = found
        return Revocation(
            key_id=key_id,
            account_id=account_id,
            revoked_at=_moment(int(revoked_at_ms)),
            tombstone_error=await self._tombstones.write(account_id, key_id),
        )

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)


@asynccontextmanager
async def open_directory(
    ledger_url: str,
    flow_url: str,
    *,
    actor: str = "api",
    clock: Callable[[], float] = time.time,
    deadline_s: float = 2.0,
) -> AsyncIterator[Directory]:
    """A directory on two Redis servers, closed at the end. Nothing is connected to before use.

    Raises:
        LedgerUnavailable, ValueError: the ledger's or the flow URL is none of a Redis.
    """
    ledger = Ledger(ledger_url, deadline_s=deadline_s)
    tombstones = Tombstones(flow_url, deadline_s=deadline_s)
    try:
        yield Directory(ledger, tombstones, clock=clock, actor=actor)
    finally:
        await ledger.close()
        await tombstones.close()


def _check_invite_terms(count: int, plan: str, note: str, expires_in_s: float | None) -> None:
    if not 1 <= count <= INVITES_MAX:
        raise RequestMalformed(f"count must be from 1 to {INVITES_MAX}.", param="count")
    if _PLAN_FORM.fullmatch(plan) is None:
        raise RequestMalformed(
            "A plan's name is 1 to 32 of a-z, 0-9, _ and -, the first a letter.", param="plan"
        )
    if len(note) > NOTE_CHARS_MAX or not all(c.isprintable() for c in note):
        raise RequestMalformed(
            f"A note is one line of at most {NOTE_CHARS_MAX} characters.", param="note"
        )
    if expires_in_s is not None and not 0 < expires_in_s <= INVITE_LIFE_S_MAX:
        raise RequestMalformed(
            "expires_in_s must be above 0 and at most ten years.", param="expires_in_s"
        )


def _invite_id(code_digest: str) -> str:
    return f"inv_{code_digest[:_ID_HEX_DIGITS]}"


def _key_id(key_digest: str) -> str:
    return f"key_{key_digest[:_ID_HEX_DIGITS]}"


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
