"""How places end: left, erased, not confirmed or not redeemed in time."""

from waitlist.errors import PlaceGone, PlaceRedeemed, TicketInsufficient
from waitlist.holders.accounts import Accounts
from waitlist.line.entries import Entries
from waitlist.proofs import tokens
from waitlist.proofs.addresses import email_digest
from waitlist.proofs.tickets import Ticket
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, day_of
from waitlist.storage.records import BranchRevocation, Entry

# A page of 200 entries holds the ledger for about 1 ms.
_EXPIRED_PER_CALL = 200


class Departures:
    def __init__(self, ledger: ActingLedger, entries: Entries) -> None:
        self._ledger = ledger
        self._entries = entries

    async def leave(self, ticket: Ticket) -> str:
        """Gives the place up; an invite that was sent is withdrawn. Returns the state afterwards.

        Raises:
            TicketInsufficient: the address is confirmed, and this is not the mail's ticket.
            PlaceRedeemed: it was turned into an account.
            PlaceGone.
        """
        state = await self._leave(await self._owned(ticket), erase=False)
        if state == "redeemed":
            raise PlaceRedeemed
        return state

    async def erase(self, ticket: Ticket) -> str:
        """Leaves, and removes everything personal from the entry; the audit keeps a digest.

        Raises:
            TicketInsufficient, PlaceGone: as `leave`.
        """
        return await self._leave(await self._owned(ticket), erase=True)

    async def erase_for_operator(self, entry_id: str) -> str:
        """As `erase`. Raises PlaceGone."""
        return await self._leave(await self._entries.read(entry_id), erase=True)

    async def _owned(self, ticket: Ticket) -> Entry:
        entry = await self._entries.read(ticket.entry_id)
        if entry.confirmed and not ticket.owner:
            raise TicketInsufficient
        return entry

    async def _leave(self, entry: Entry, *, erase: bool) -> str:
        now_ms = self._ledger.now_ms()
        address_digest = email_digest(entry.email) if entry.email else tokens.digest("")
        bucket, field = redis_keys.addresses(address_digest)
        state: str = await self._ledger.run(
            "leave",
            [
                redis_keys.entry(entry.entry_id),
                redis_keys.LINE,
                redis_keys.PENDING,
                redis_keys.INVITED,
                redis_keys.statistics(day_of(now_ms)),
                redis_keys.AUDIT,
                bucket,
                redis_keys.OUTBOX,
                redis_keys.OUTBOX_HELD,
            ],
            [
                *(now_ms, self._ledger.actor, entry.entry_id, address_digest, field),
                *(redis_keys.INVITE_PREFIX, "1" if erase else ""),
            ],
        )
        if state == "gone":
            raise PlaceGone
        return state

    async def erase_with_account(self, accounts: Accounts, account_id: str) -> BranchRevocation:
        """Erases an account, the place that it came from and that of its address. Raises NotFound.

        The latter may have been confirmed when the account was there already.
        """
        account = await accounts.read(account_id)
        entry_ids = [account.entry_id]
        if account.email is not None:
            address_digest = email_digest(account.email)
            bucket, field = redis_keys.addresses(address_digest)
            keys = [bucket, redis_keys.email(address_digest)]
            entry_ids.append((await self._ledger.run("find_address", keys, [field]))[0])
        for entry_id in dict.fromkeys(found for found in entry_ids if found is not None):
            [entry] = await self._entries.read_many([entry_id])
            if entry is not None:
                await self._leave(entry, erase=True)
        return await accounts.erase(account_id)

    async def expire(self) -> int:
        """Ends what was not confirmed or redeemed in time, one page of it; how many that were."""
        now_ms = self._ledger.now_ms()
        unconfirmed, unredeemed = await self._ledger.run(
            "expire_entries",
            [
                redis_keys.PENDING,
                redis_keys.INVITED,
                redis_keys.LINE,
                redis_keys.statistics(day_of(now_ms)),
            ],
            [now_ms, _EXPIRED_PER_CALL, redis_keys.ENTRY_PREFIX],
        )
        return int(unconfirmed) + int(unredeemed)
