"""Import and export of the line, streamed: a million rows need no more memory than a thousand.

An import notes after each piece how far the file was read, in the script that adds the piece, and
entry ids follow from file and row: started again, it goes on where it stopped and adds nobody
twice. An export may be started again with the ids that it has written.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from waitlist import redis_keys
from waitlist.acting_ledger import ActingLedger, day_of
from waitlist.addresses import email_digest, normalise_email
from waitlist.entries import ENTRIES_PER_CALL, Entries
from waitlist.errors import EmailMalformed, RequestMalformed
from waitlist.join_request import LOCALES
from waitlist.records import Entry
from waitlist.terms import check_note
from waitlist.tickets import TicketSigner

# 100 rows hold the ledger for about 1.5 ms.
_ROWS_PER_CALL = 100
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


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Rows read so far, people added, and rows passed over: known addresses, unusable rows."""

    rows: int
    added: int
    skipped: int


class Imports:
    def __init__(self, ledger: ActingLedger, signer: TicketSigner) -> None:
        self._ledger = ledger
        self._signer = signer

    async def run(
        self, file_digest: str, rows: Iterable[dict[str, str]]
    ) -> AsyncIterator[ImportProgress]:
        """Adds people in the order of `rows`, and tells how far it is after each piece.

        A row has `email` and may have `joined_at` (ISO 8601 or ms since 1970), `locale`, `note`.
        Its people count as confirmed. `file_digest` names the file.

        Raises:
            RequestMalformed: a row cannot be used; `param` names it. What stands before it is in.
        """
        source = iter(rows)
        progress = await self.progress(file_digest)
        for _ in islice(source, progress.rows):  # read by an earlier run
            pass
        while piece := list(islice(source, _ROWS_PER_CALL)):
            progress = await self._add(file_digest, progress.rows, piece)
            yield progress

    async def progress(self, file_digest: str) -> ImportProgress:
        """How far a file was read."""
        [row] = await self._ledger.records(redis_keys.IMPORT_PREFIX, [file_digest])
        return ImportProgress(*(int(row.get(name, 0)) for name in ("rows", "added", "skipped")))

    async def _add(
        self, file_digest: str, before: int, piece: list[dict[str, str]]
    ) -> ImportProgress:
        now_ms = self._ledger.now_ms()
        args: list[str | int] = []
        for number, row in enumerate(piece, start=before + 1):
            args += self._arguments(file_digest, number, row, now_ms)
        done = await self._ledger.run(
            "import_entries",
            [
                redis_keys.import_of(file_digest),
                redis_keys.LINE,
                redis_keys.LINE_LAST_NUMBER,
                redis_keys.statistics(day_of(now_ms)),
                redis_keys.AUDIT,
            ],
            [
                *(now_ms, self._ledger.actor, file_digest, before, len(piece)),
                *(redis_keys.ENTRY_PREFIX, redis_keys.ADDRESSES_PREFIX, *args),
            ],
        )
        return ImportProgress(*map(int, done))

    def _arguments(
        self, file_digest: str, number: int, row: dict[str, str], now_ms: int
    ) -> list[str | int]:
        try:
            email = normalise_email(row.get("email") or "")
            note = row.get("note") or ""
            check_note(note)
            locale = row.get("locale") or LOCALES[0]
            if locale not in LOCALES:
                raise RequestMalformed(f"locale must be one of {', '.join(LOCALES)}.")
            at_ms = _joined_at_ms(row.get("joined_at") or "", now_ms)
        except (EmailMalformed, RequestMalformed) as error:
            raise RequestMalformed(
                f"Row {number} cannot be used: {error.message}", param=f"row {number}"
            ) from None
        bucket, field = redis_keys.addresses(email_digest(email))
        return [
            *(self._signer.entry_id_of(file_digest, number), email, at_ms),
            *("" if locale == LOCALES[0] else locale, note),
            *(bucket.removeprefix(redis_keys.ADDRESSES_PREFIX), field),
        ]


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


def _joined_at_ms(text: str, now_ms: int) -> int:
    if not text:
        return now_ms
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise RequestMalformed("joined_at is no time.") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _pages(ids: list[str], size: int) -> Iterator[list[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
