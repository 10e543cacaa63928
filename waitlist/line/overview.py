"""How the waitlist stands: counts, pauses, statistics by day, the audit, and who has an address."""

import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from waitlist.errors import RequestMalformed
from waitlist.proofs.addresses import email_digest, normalise_email
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, day_of, moment

Pausable = Literal["joining", "releasing"]
PAUSABLE: Final[tuple[Pausable, ...]] = ("joining", "releasing")
DAYS_MAX: Final = 400
_COUNTED: Final = (
    "joined",
    "confirmed",
    "unconfirmed",
    "invited",
    "redeemed",
    "expired",
    "left",
    "erased",
    "referred",
)
_AUDIT_PER_PAGE = 200
_AUDIT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LineOverview:
    """Counts of this moment. `paused` maps what is paused to since when."""

    in_line: int
    pending: int
    invited: int
    open_batches: int
    mails_waiting: int
    mails_held: int
    paused: dict[str, datetime]
    released_by_hour: dict[int, int]


@dataclass(frozen=True, slots=True)
class DayStatistics:
    day: date
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    audit_id: str
    fields: dict[str, str]


class Overview:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def line(self) -> LineOverview:
        row = await self._ledger.run(
            "read_overview",
            [
                redis_keys.LINE,
                redis_keys.PENDING,
                redis_keys.INVITED,
                redis_keys.BATCHES_OPEN,
                redis_keys.OUTBOX,
                redis_keys.OUTBOX_HELD,
                redis_keys.PAUSES,
                redis_keys.RELEASED_BY_HOUR,
            ],
            [],
        )
        in_line, pending, invited, open_batches, mails_waiting, mails_held, paused, released = row
        return LineOverview(
            in_line=in_line,
            pending=pending,
            invited=invited,
            open_batches=open_batches,
            mails_waiting=mails_waiting,
            mails_held=mails_held,
            paused={what: moment(since) for what, since in _pairs(paused)},
            released_by_hour={int(hour): int(count) for hour, count in _pairs(released)},
        )

    async def pause(self, what: Pausable, *, paused: bool) -> bool:
        """Pauses joining or releasing, or ends the pause; False where that was so already."""
        changed = await self._ledger.run(
            "set_pause",
            [redis_keys.PAUSES, redis_keys.AUDIT, redis_keys.new_mark()],
            [
                *(self._ledger.now_ms(), self._ledger.actor, what, "1" if paused else ""),
                redis_keys.MARK_LIFE_MS,
            ],
        )
        return bool(changed)

    async def days(self, count: int) -> list[DayStatistics]:
        """The last `count` days in UTC, today last. Raises RequestMalformed beyond 400."""
        if not 1 <= count <= DAYS_MAX:
            raise RequestMalformed(f"days must be from 1 to {DAYS_MAX}.", param="days")
        today = date.fromisoformat(day_of(self._ledger.now_ms()))
        days = [today - timedelta(days=back) for back in reversed(range(count))]
        rows = await self._ledger.records(
            redis_keys.STATISTICS_PREFIX, [day.isoformat() for day in days]
        )
        return [
            DayStatistics(day, {name: int(row.get(name, 0)) for name in _COUNTED})
            for day, row in zip(days, rows, strict=True)
        ]

    async def audit(self, after: str = "") -> AsyncGenerator[AuditEntry]:
        """The audit from the beginning, or after an entry's id; page by page."""
        while True:
            page = await self.audit_page(after, _AUDIT_PER_PAGE)
            for entry in page:
                yield entry
            if len(page) < _AUDIT_PER_PAGE:
                return
            after = page[-1].audit_id

    async def audit_page(self, after: str, count: int) -> list[AuditEntry]:
        """Up to `count` entries after that id, '' for the oldest.

        Raises RequestMalformed where the id is none.
        """
        if after and _AUDIT_ID.fullmatch(after) is None:
            raise RequestMalformed("after must be the id of an entry.", param="after")
        page = await self._ledger.run("read_audit", [redis_keys.AUDIT], [after or "-", count])
        return [AuditEntry(audit_id, dict(_pairs(fields))) for audit_id, fields in page]

    async def note(self, action: str, about: str) -> None:
        """Writes into the audit what changes no record: a search, an export."""
        await self._ledger.run(
            "note_action",
            [redis_keys.AUDIT, redis_keys.new_mark()],
            [self._ledger.now_ms(), self._ledger.actor, action, about, redis_keys.MARK_LIFE_MS],
        )

    async def find_address(self, email: str) -> tuple[str | None, str | None]:
        """The entry and the account of an address, where there are any.

        Raises EmailMalformed. The audit keeps who looked, and the digest.
        """
        address_digest = email_digest(normalise_email(email))
        bucket, field = redis_keys.addresses(address_digest)
        await self.note("address_searched", address_digest)
        entry_id, account_id = await self._ledger.run(
            "find_address", [bucket, redis_keys.email(address_digest)], [field]
        )
        return entry_id, account_id


def _pairs(flat: list[str]) -> Iterator[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)
