"""Releases at a time: once, or again and again until an end.

A schedule that is due opens its batch in the script that sets its next time, so no time is lost
and none counts twice, however many gateways look.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from waitlist.errors import NotFound, RequestMalformed
from waitlist.release.releases import INVITE_LIFE_S_DEFAULT, check_release_terms
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment, moment_or_none
from waitlist.terms import PLAN_DEFAULT

EVERY_S_MIN: Final = 60.0
_SCHEDULES_SHOWN_MAX = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """`every_s` is 0 where it happens once."""

    schedule_id: str
    next_at: datetime
    count: int
    every_s: float
    plan: str
    until: datetime | None


class Schedules:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def add(
        self,
        first_at: datetime,
        count: int,
        *,
        every_s: float = 0,
        until: datetime | None = None,
        plan: str = PLAN_DEFAULT,
        invite_life_s: float = INVITE_LIFE_S_DEFAULT,
    ) -> str:
        """Notes a schedule and returns its id. A first time in the past is due at once.

        Raises:
            RequestMalformed: a term is out of its bounds, or a time has no zone.
        """
        check_release_terms(count, plan, invite_life_s, "")
        if every_s and every_s < EVERY_S_MIN:
            raise RequestMalformed(
                f"every_s must be 0, or at least {EVERY_S_MIN:g}.", param="every_s"
            )
        for name, at in (("first_at", first_at), ("until", until)):
            if at is not None and at.tzinfo is None:
                raise RequestMalformed(f"{name} needs a time zone, such as Z.", param=name)
        schedule_id = f"sched_{secrets.token_hex(8)}"
        await self._ledger.run(
            "add_schedule",
            [redis_keys.schedule(schedule_id), redis_keys.SCHEDULES, redis_keys.AUDIT],
            [
                *(self._ledger.now_ms(), self._ledger.actor, schedule_id),
                *(round(first_at.timestamp() * 1000), count, round(every_s * 1000), plan),
                round(invite_life_s * 1000),
                "" if until is None else round(until.timestamp() * 1000),
            ],
        )
        return schedule_id

    async def drop(self, schedule_id: str) -> None:
        """Raises NotFound."""
        dropped = await self._ledger.run(
            "drop_schedule",
            [
                redis_keys.schedule(schedule_id),
                redis_keys.SCHEDULES,
                redis_keys.AUDIT,
                redis_keys.new_mark(),
            ],
            [self._ledger.now_ms(), self._ledger.actor, schedule_id, redis_keys.MARK_LIFE_MS],
        )
        if not dropped:
            raise NotFound("schedule")

    async def list_all(self) -> list[Schedule]:
        """Next first."""
        ids = await self._ledger.run(
            "list_ids", [redis_keys.SCHEDULES], [_SCHEDULES_SHOWN_MAX, "oldest"]
        )
        rows = await self._ledger.records(redis_keys.SCHEDULE_PREFIX, ids)
        return [
            Schedule(
                schedule_id=schedule_id,
                next_at=moment(row["next_at_ms"]),
                count=int(row["count"]),
                every_s=int(row["every_ms"]) / 1000,
                plan=row["plan"],
                until=moment_or_none(row["until_ms"]),
            )
            for schedule_id, row in zip(ids, rows, strict=True)
            if row
        ]

    async def open_due_batch(self) -> str | None:
        """Opens the batch of one schedule that is due; its id, or None when nothing is due."""
        batch_id: str | None = await self._ledger.run(
            "open_scheduled_batch",
            [
                redis_keys.SCHEDULES,
                redis_keys.BATCHES_OPEN,
                redis_keys.BATCHES,
                redis_keys.AUDIT,
            ],
            [
                *(self._ledger.now_ms(), self._ledger.actor),
                *(redis_keys.SCHEDULE_PREFIX, redis_keys.BATCH_PREFIX),
            ],
        )
        return batch_id
