"""Letting people in: batches of a size, worked off in small steps that anybody may go on with.

A batch is noted first and worked off then. Whoever works on it (a command, a gateway) may die at
any point: the batch stays open, and the next one who looks goes on where it stopped. Two at once
let nobody in twice and no more than the batch's size.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final

from waitlist.errors import NotFound, RequestMalformed
from waitlist.invites.codes import invite_id_of
from waitlist.line.estimate import WINDOW_H
from waitlist.proofs import tokens
from waitlist.proofs.addresses import email_digest
from waitlist.proofs.tickets import TicketSigner
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, day_of, hour_of, moment
from waitlist.storage.records import Batch
from waitlist.terms import PLAN_DEFAULT, check_invite_life, check_note, check_plan

BATCH_SIZE_MAX: Final = 1_000_000
INVITE_LIFE_S_DEFAULT: Final = 7 * 86_400.0
BATCHES_SHOWN_MAX: Final = 200
# On a loaded 2-core machine 100 people held the ledger for 5 to 13 ms, and nobody may be kept
# waiting for 20; 50 hold it for 2 to 7.
_PEOPLE_PER_CALL = 50
# People who have not confirmed stay at the head for days: looking at 200 holds the ledger for
# about 1 ms, at 500 for 2.
_PLACES_PER_CALL = 200


class Releases:
    def __init__(self, ledger: ActingLedger, signer: TicketSigner) -> None:
        self._ledger = ledger
        self._signer = signer

    async def release(
        self,
        size: int,
        *,
        plan: str = PLAN_DEFAULT,
        invite_life_s: float = INVITE_LIFE_S_DEFAULT,
        transferable: bool = False,
        reason: str = "",
        batch_id: str = "",
    ) -> Batch:
        """Lets `size` people in, the head of the line first, or as many as wait.

        With `batch_id`, calling again goes on with the same batch.

        Raises:
            RequestMalformed: size, plan, invite_life_s or reason is out of its bounds.
        """
        opened = await self.open(
            size,
            plan=plan,
            invite_life_s=invite_life_s,
            transferable=transferable,
            reason=reason,
            batch_id=batch_id,
        )
        return await self.work_off(opened)

    async def open(
        self,
        size: int,
        *,
        plan: str = PLAN_DEFAULT,
        invite_life_s: float = INVITE_LIFE_S_DEFAULT,
        transferable: bool = False,
        reason: str = "",
        batch_id: str = "",
    ) -> str:
        """Notes a batch and returns its id. Raises as `release`."""
        check_release_terms(size, plan, invite_life_s, reason)
        batch_id = batch_id or f"batch_{secrets.token_hex(12)}"
        await self._ledger.run(
            "open_batch",
            [
                redis_keys.batch(batch_id),
                redis_keys.BATCHES,
                redis_keys.BATCHES_OPEN,
                redis_keys.AUDIT,
            ],
            [
                *(self._ledger.now_ms(), self._ledger.actor, batch_id, size, plan),
                *(round(invite_life_s * 1000), "1" if transferable else "", reason),
            ],
        )
        return batch_id

    async def work_off(self, batch_id: str) -> Batch:
        """Goes on with a batch until it is done, nobody waits, or releasing is paused.

        Raises NotFound.
        """
        least_score = "-inf"
        seen: set[str] = set()
        while True:
            last_score, line_ends, rows = await self._ledger.run(
                "read_line",
                [redis_keys.LINE],
                [least_score, _PEOPLE_PER_CALL, _PLACES_PER_CALL, redis_keys.ENTRY_PREFIX],
            )
            # Equal scores may straddle two pages, so a page begins with the last one's end.
            people = [(entry_id, email) for entry_id, email in rows if entry_id not in seen]
            if people and await self._release(batch_id, people) != "open":
                break
            if line_ends and not people:
                await self.close(batch_id, "nobody waits")
                break
            least_score = last_score
            seen = {entry_id for entry_id, _ in rows}
        return await self.read(batch_id)

    async def _release(self, batch_id: str, people: Sequence[tuple[str, str]]) -> str:
        """The batch's state after these people, in order, as far as it has room."""
        now_ms = self._ledger.now_ms()
        invited: list[str | int] = []
        for entry_id, email in people:
            code_digest = tokens.digest(self._signer.code(entry_id, batch_id))
            invited += [entry_id, invite_id_of(code_digest), code_digest, email_digest(email)]
        state, _ = await self._ledger.run(
            "release",
            [
                redis_keys.batch(batch_id),
                redis_keys.LINE,
                redis_keys.INVITED,
                redis_keys.OUTBOX,
                redis_keys.statistics(day_of(now_ms)),
                redis_keys.RELEASED_BY_HOUR,
                redis_keys.AUDIT,
                redis_keys.BATCHES_OPEN,
                redis_keys.PAUSES,
            ],
            [
                *(now_ms, self._ledger.actor, batch_id, hour_of(now_ms), redis_keys.ENTRY_PREFIX),
                *(redis_keys.INVITE_PREFIX, WINDOW_H, *invited),
            ],
        )
        return str(state)

    async def close(self, batch_id: str, reason: str) -> None:
        """Ends a batch before it has its size. Raises NotFound."""
        found = await self._ledger.run(
            "close_batch",
            [redis_keys.batch(batch_id), redis_keys.BATCHES_OPEN, redis_keys.AUDIT],
            [self._ledger.now_ms(), self._ledger.actor, batch_id, reason],
        )
        if found is None:
            raise NotFound("batch")

    async def read(self, batch_id: str) -> Batch:
        """Raises NotFound."""
        for batch in await self._list([batch_id]):
            return batch
        raise NotFound("batch")

    async def newest(self) -> list[Batch]:
        """The newest batches, newest first."""
        ids = await self._ledger.run(
            "list_ids", [redis_keys.BATCHES], [BATCHES_SHOWN_MAX, "newest"]
        )
        return await self._list(ids)

    async def open_batches(self) -> list[str]:
        """Ids of batches that are not done, oldest first."""
        ids: list[str] = await self._ledger.run(
            "list_ids", [redis_keys.BATCHES_OPEN], [BATCHES_SHOWN_MAX, "oldest"]
        )
        return ids

    async def _list(self, ids: list[str]) -> list[Batch]:
        rows: list[dict[str, Any]] = await self._ledger.records(redis_keys.BATCH_PREFIX, ids)
        return [_batch(batch_id, row) for batch_id, row in zip(ids, rows, strict=True) if row]


def check_release_terms(size: int, plan: str, invite_life_s: float, reason: str) -> None:
    """Raises RequestMalformed with the first term that is out of its bounds."""
    if not 1 <= size <= BATCH_SIZE_MAX:
        raise RequestMalformed(f"count must be from 1 to {BATCH_SIZE_MAX}.", param="count")
    check_plan(plan)
    check_invite_life(invite_life_s)
    check_note(reason)


def _batch(batch_id: str, row: dict[str, str]) -> Batch:
    return Batch(
        batch_id=batch_id,
        size=int(row["size"]),
        released=int(row["released"]),
        state=row["state"],
        plan=row["plan"],
        invite_life_s=int(row["invite_life_ms"]) / 1000,
        reason=row["reason"],
        created_at=moment(row["created_at_ms"]),
    )
