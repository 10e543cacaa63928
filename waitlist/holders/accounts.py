"""Accounts: what operators see and change, and the tree of who invited whom."""

from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from waitlist.errors import NotFound, RequestMalformed
from waitlist.holders.revocations import Tombstones
from waitlist.proofs.addresses import email_digest
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment, moment_or_none
from waitlist.storage.records import AccountRecord, BranchRevocation, SharedInvite
from waitlist.terms import check_plan

INVITES_LEFT_MAX: Final = 10_000
_INVITES_SHOWN_MAX = 200
_GUESTS_PER_PAGE = 500


class Accounts:
    def __init__(self, ledger: ActingLedger, tombstones: Tombstones) -> None:
        self._ledger = ledger
        self._tombstones = tombstones

    async def read(self, account_id: str) -> AccountRecord:
        """Raises NotFound."""
        found = await self._ledger.run(
            "read_account",
            [
                redis_keys.account(account_id),
                redis_keys.account_invites(account_id),
                redis_keys.ACCOUNT_GUESTS_PREFIX + account_id,
            ],
            [redis_keys.INVITE_PREFIX, _INVITES_SHOWN_MAX],
        )
        if found is None:
            raise NotFound("account")
        email, plan, created, invite_id, inviter, left, revoked, entry_id, guests, invites = found
        return AccountRecord(
            account_id=account_id,
            email=email or "",
            plan=plan,
            created_at=moment(created),
            invite_id=invite_id,
            inviter=inviter,
            invites_left=int(left or 0),
            revoked_at=moment_or_none(revoked),
            entry_id=entry_id,
            guests=guests,
            invites=tuple(
                SharedInvite(
                    invite_id=row[0],
                    created_at=moment(row[1]),
                    expires_at=moment_or_none(row[2]),
                    used_at=moment_or_none(row[3]),
                    revoked_at=moment_or_none(row[4]),
                )
                for row in invites
            ),
        )

    async def set_plan(self, account_id: str, plan: str) -> None:
        """Raises NotFound, and RequestMalformed where the name is none of a plan."""
        check_plan(plan)
        await self._change(account_id, "plan", plan)

    async def grant_invites(self, account_id: str, count: int) -> None:
        """Sets how many invites the account may hand on from now on.

        Raises:
            RequestMalformed: below 0 or above 10,000.
            NotFound.
        """
        if not 0 <= count <= INVITES_LEFT_MAX:
            raise RequestMalformed(f"count must be from 0 to {INVITES_LEFT_MAX}.", param="count")
        await self._change(account_id, "invites_left", str(count))

    async def branch(self, account_id: str) -> AsyncGenerator[str]:
        """The account and all that came by its invites and theirs, nearest first."""
        seen = {account_id}
        waiting = deque([account_id])
        while waiting:
            current = waiting.popleft()
            yield current
            async for guest in self._guests(current):
                if guest not in seen:
                    seen.add(guest)
                    waiting.append(guest)

    async def revoke(self, account_id: str) -> BranchRevocation:
        """Revokes one account with its keys and the codes that it handed on. Raises NotFound."""
        key_ids = await self._revoke_in_ledger(account_id)
        error = await self._write_tombstones(account_id, key_ids)
        return BranchRevocation((account_id,), len(key_ids), error)

    async def erase(self, account_id: str) -> BranchRevocation:
        """Revokes an account and erases its address; the audit keeps the digest. Raises NotFound.

        The address may get a new account then. Its place in line is erased by `Departures`.
        """
        email = (await self.read(account_id)).email
        key_ids = await self._revoke_in_ledger(account_id, email_digest(email) if email else "")
        error = await self._write_tombstones(account_id, key_ids)
        return BranchRevocation((account_id,), len(key_ids), error)

    async def revoke_branch(self, account_id: str) -> BranchRevocation:
        """Revokes an account and everybody who came by its invites, root first.

        The root's codes stop at once, so nobody joins the branch behind our back; where the ledger
        fails half way, calling again goes on. Raises NotFound.
        """
        account_ids: list[str] = []
        keys = 0
        error: str | None = None
        async for current in self.branch(account_id):
            key_ids = await self._revoke_in_ledger(current)
            error = await self._write_tombstones(current, key_ids) or error
            account_ids.append(current)
            keys += len(key_ids)
        return BranchRevocation(tuple(account_ids), keys, error)

    async def _revoke_in_ledger(self, account_id: str, erased_digest: str = "") -> list[str]:
        key_ids: list[str] | None = await self._ledger.run(
            "revoke_account",
            [
                redis_keys.account(account_id),
                redis_keys.account_keys(account_id),
                redis_keys.AUDIT,
                redis_keys.email(erased_digest),
            ],
            [
                *(self._ledger.now_ms(), self._ledger.actor, account_id),
                *(redis_keys.KEY_PREFIX, redis_keys.REVOCATIONS_CHANNEL, erased_digest),
            ],
        )
        if key_ids is None:
            raise NotFound("account")
        return key_ids

    async def _write_tombstones(self, account_id: str, key_ids: list[str]) -> str | None:
        error: str | None = None
        for key_id in key_ids:
            error = await self._tombstones.write(account_id, key_id) or error
        return error

    async def _guests(self, account_id: str) -> AsyncGenerator[str]:
        read = 0
        while True:
            page = await self._ledger.run(
                "list_guests",
                [redis_keys.ACCOUNT_GUESTS_PREFIX + account_id],
                [read, _GUESTS_PER_PAGE],
            )
            for guest in page:
                yield guest
            read += len(page)
            if len(page) < _GUESTS_PER_PAGE:
                return

    async def _change(self, account_id: str, field: str, value: str) -> None:
        changed = await self._ledger.run(
            "change_account",
            [redis_keys.account(account_id), redis_keys.AUDIT],
            [self._ledger.now_ms(), self._ledger.actor, account_id, field, value],
        )
        if not changed:
            raise NotFound("account")
