"""Export of the line, streamed: places as rows that an import takes again."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final

from waitlist.line.entries import ENTRIES_PER_CALL, Entries
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.storage.records import Entry

# Keys that one SCAN looks at: about 0.5 ms.
_SCAN_EFFORT = 1000
EXPORTED_FIELDS: Final = (
    "entry_id",
    "state",
    "place",
    "email",
    "joined_at",
    "locale",
    "note",
    "consent",
    "referred_by",
    "referred",
    "invite_expires_at",
)


class Exports:
    def __init__(self, ledger: ActingLedger, entries: Entries) -> None:
        self._ledger = ledger
        self._entries = entries

    async def entries(self, written: Iterable[str] = ()) -> AsyncGenerator[Entry]:
        """Every entry once, in no order, except those whose ids are in `written`.

        It remembers ids: about 70 MB for a million. Who joins or leaves meanwhile may be missing.
        """
        seen = set(written)
        cursor = "0"
        while True:
            cursor, found = await self._ledger.run(
                "scan_entries",
                [redis_keys.SCHEMA],
                [cursor, redis_keys.ENTRY_PREFIX, _SCAN_EFFORT],
            )
            fresh = [entry_id for entry_id in dict.fromkeys(found) if entry_id not in seen]
            seen.update(fresh)
            for ids in _pages(fresh, ENTRIES_PER_CALL):
                for entry in await self._entries.read_many(ids):
                    if entry is not None:
                        yield entry
            if cursor == "0":
                return

    async def waiting(self, written: Iterable[str] = ()) -> AsyncGenerator[Entry]:
        """Everybody who waits and is confirmed, first in line first, but for those in `written`.

        Whoever is moved ahead meanwhile stands where the walk met them first.
        """
        seen = set(written)
        met: set[str] = set()
        least_score = "-inf"
        while True:
            last_score, line_ends, rows = await self._ledger.run(
                "read_line",
                [redis_keys.LINE],
                [least_score, ENTRIES_PER_CALL, ENTRIES_PER_CALL, redis_keys.ENTRY_PREFIX],
            )
            # Equal scores may straddle two pages, so a page begins with the last one's end.
            fresh = [entry_id for entry_id, _ in rows if entry_id not in met]
            if line_ends and not fresh:
                return
            met = {entry_id for entry_id, _ in rows}
            least_score = last_score
            for entry in await self._entries.read_many([e for e in fresh if e not in seen]):
                if entry is not None and entry.state == "waiting":
                    yield entry
            seen.update(fresh)


def exported_row(entry: Entry) -> dict[str, str]:
    """An entry as a row of EXPORTED_FIELDS, empty where there is nothing."""
    expires_at = entry.invite_expires_at
    return {
        "entry_id": entry.entry_id,
        "state": entry.state,
        "place": "" if entry.ahead is None else str(entry.ahead + 1),
        "email": entry.email or "",
        "joined_at": entry.joined_at.isoformat(),
        "locale": entry.locale,
        "note": entry.note,
        "consent": "yes" if entry.consent else "no",
        "referred_by": entry.referred_by or "",
        "referred": str(entry.referred),
        "invite_expires_at": "" if expires_at is None else expires_at.isoformat(),
    }


def _pages(ids: list[str], size: int) -> Iterator[list[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
