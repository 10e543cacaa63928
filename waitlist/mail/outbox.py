"""Mails to be sent, as the ledger keeps them: due, taken under a lease, settled, held.

A mail's id is `<kind>:<entry id>`, and it enters in the script that makes it due (joining, letting
in), so it is there exactly when its cause is. Whoever takes it has a lease; a crash lets the lease
end, and the mail is due again.
"""

from typing import Final

from waitlist.errors import NotFound
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment
from waitlist.storage.records import Mail

# Above the longest try (MAIL_TRY_S_MAX of delivery), so that no mail is in two hands.
LEASE_S: Final = 90.0
_MAILS_PER_CLAIM = 20
_MAILS_SHOWN_MAX = 500


class Outbox:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def claim(self) -> list[tuple[str, int]]:
        """Mails that are due, with the number of this try; nobody else gets them for LEASE_S."""
        now_ms = self._ledger.now_ms()
        rows = await self._ledger.run(
            "claim_mails",
            [redis_keys.OUTBOX, redis_keys.OUTBOX_TRIES],
            [now_ms, now_ms + round(LEASE_S * 1000), _MAILS_PER_CLAIM],
        )
        return [(mail_id, int(tries)) for mail_id, tries in rows]

    async def sent(self, mail_id: str) -> None:
        """The mail server has taken it, or nobody wants it any longer."""
        await self._settle(mail_id, "", held=False, reason="")

    async def retry(self, mail_id: str, in_s: float, reason: str) -> None:
        at_ms = self._ledger.now_ms() + round(in_s * 1000)
        await self._settle(mail_id, at_ms, held=False, reason=reason)

    async def hold(self, mail_id: str, reason: str) -> None:
        """Leaves it to the operator."""
        await self._settle(mail_id, self._ledger.now_ms(), held=True, reason=reason)

    async def waiting(self) -> list[Mail]:
        """Mails that will be tried by themselves, next first."""
        return await self._list(redis_keys.OUTBOX)

    async def held(self) -> list[Mail]:
        """Mails that wait for the operator, oldest first."""
        return await self._list(redis_keys.OUTBOX_HELD)

    async def requeue(self, mail_id: str) -> None:
        """Sends a held mail again. Raises NotFound."""
        await self._move(mail_id, "mail_requeued")

    async def delivered(self, mail_id: str) -> None:
        """Drops a held mail that the operator has delivered. Raises NotFound."""
        await self._move(mail_id, "mail_delivered")

    async def _settle(self, mail_id: str, at_ms: int | str, *, held: bool, reason: str) -> None:
        await self._ledger.run(
            "settle_mail",
            [
                redis_keys.OUTBOX,
                redis_keys.OUTBOX_TRIES,
                redis_keys.OUTBOX_HELD,
                redis_keys.OUTBOX_REASONS,
            ],
            [mail_id, at_ms, "1" if held else "", reason[:200]],
        )

    async def _move(self, mail_id: str, action: str) -> None:
        moved = await self._ledger.run(
            "move_held_mail",
            [
                redis_keys.OUTBOX,
                redis_keys.OUTBOX_HELD,
                redis_keys.OUTBOX_REASONS,
                redis_keys.AUDIT,
                redis_keys.new_mark(),
            ],
            [self._ledger.now_ms(), self._ledger.actor, mail_id, action, redis_keys.MARK_LIFE_MS],
        )
        if not moved:
            raise NotFound("held mail")

    async def _list(self, name: str) -> list[Mail]:
        rows = await self._ledger.run(
            "list_mails",
            [name, redis_keys.OUTBOX_TRIES, redis_keys.OUTBOX_REASONS],
            [_MAILS_SHOWN_MAX],
        )
        return [
            Mail(
                mail_id=mail_id,
                kind=mail_id.partition(":")[0],
                entry_id=mail_id.partition(":")[2],
                tries=int(tries or 0),
                due_at=moment(due_ms),
                reason=reason or "",
            )
            for mail_id, due_ms, tries, reason in rows
        ]
