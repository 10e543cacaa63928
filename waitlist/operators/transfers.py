"""Import into the line, streamed: a million rows need no more memory than a thousand.

An import notes after each piece how far the file was read, in the script that adds the piece, and
entry ids follow from file and row: started again, it goes on where it stopped and adds nobody
twice. An export may be imported again.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from waitlist.errors import EmailMalformed, LedgerUnavailable, RequestMalformed
from waitlist.line.join_request import LOCALES
from waitlist.proofs.addresses import email_digest, normalise_email
from waitlist.proofs.tickets import TicketSigner
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, day_of
from waitlist.terms import check_note

# 100 rows hold the ledger for about 1.5 ms.
_ROWS_PER_CALL = 100
# States of an export's rows whose people are not to be put in line again: gone, or never confirmed.
_PASSED_OVER: Final = frozenset({"left", "pending"})


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Rows read so far, and what became of them.

    `skipped`: their address has a place. `passed_over`: an export's rows of people who left, were
    erased or never confirmed. `rejected`: not usable.
    """

    rows: int
    added: int
    skipped: int
    passed_over: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A row as it stands in a file; with a `problem` where it could not be read."""

    line: int
    fields: dict[str, str]
    problem: str = ""


Reject = Callable[[ImportRow], None]


class Imports:
    def __init__(self, ledger: ActingLedger, signer: TicketSigner) -> None:
        self._ledger = ledger
        self._signer = signer

    async def run(
        self,
        file_digest: str,
        rows: Iterable[dict[str, str] | ImportRow],
        reject: Reject | None = None,
    ) -> AsyncIterator[ImportProgress]:
        """Adds people in the order of `rows`, and tells how far it is after each piece.

        A row has `email` and may have `joined_at` (ISO 8601 or ms since 1970), `locale`, `note`.
        Its people count as confirmed. `file_digest` names the file. `reject` is handed each row
        that cannot be used, before its piece is added: after a crash it may come again. Several may
        run with the same file: each goes on behind what the others added.

        Raises:
            RequestMalformed: a row cannot be used, and there is no `reject`; `param` names it. What
                stands before its piece is in.
            LedgerUnavailable: also when the ledger was put back to an earlier state meanwhile.
        """
        source = iter(rows)
        read = 0
        progress = await self.progress(file_digest)
        while True:
            if progress.rows < read:
                raise LedgerUnavailable(
                    "The ledger forgot rows that were added.",
                    hint="Start the import again: it goes on where the ledger is.",
                )
            # Read by an earlier run, or by another one meanwhile.
            for _ in islice(source, progress.rows - read):
                read += 1
            piece = list(islice(source, _ROWS_PER_CALL))
            if not piece:
                return
            before, read = read, read + len(piece)
            progress = await self._add(file_digest, before, piece, reject)
            yield progress

    async def progress(self, file_digest: str) -> ImportProgress:
        """How far a file was read."""
        [row] = await self._ledger.records(redis_keys.IMPORT_PREFIX, [file_digest])
        return ImportProgress(*(int(row.get(name, 0)) for name in ImportProgress.__slots__))

    async def _add(
        self,
        file_digest: str,
        before: int,
        piece: list[dict[str, str] | ImportRow],
        reject: Reject | None,
    ) -> ImportProgress:
        now_ms = self._ledger.now_ms()
        args: list[str | int] = []
        passed_over = rejected = 0
        for number, given in enumerate(piece, start=before + 1):
            row = given if isinstance(given, ImportRow) else ImportRow(number, given)
            if _is_passed_over(row.fields) and not row.problem:
                passed_over += 1
                continue
            try:
                args += self._arguments(file_digest, number, row, now_ms)
            except RequestMalformed as error:
                if reject is None:
                    raise
                reject(replace(row, problem=error.message))
                rejected += 1
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
                *(redis_keys.ENTRY_PREFIX, redis_keys.ADDRESSES_PREFIX, passed_over, rejected),
                *args,
            ],
        )
        return ImportProgress(*map(int, done))

    def _arguments(
        self, file_digest: str, number: int, row: ImportRow, now_ms: int
    ) -> list[str | int]:
        fields = row.fields
        try:
            if row.problem:
                raise RequestMalformed(row.problem)
            email = normalise_email(fields.get("email") or "")
            note = fields.get("note") or ""
            check_note(note)
            locale = fields.get("locale") or LOCALES[0]
            if locale not in LOCALES:
                raise RequestMalformed(f"locale must be one of {', '.join(LOCALES)}.")
            at_ms = _joined_at_ms(fields.get("joined_at") or "", now_ms)
        except (EmailMalformed, RequestMalformed) as error:
            raise RequestMalformed(
                f"Line {row.line} cannot be used: {error.message}", param=f"row {number}"
            ) from None
        bucket, field = redis_keys.addresses(email_digest(email))
        return [
            *(self._signer.entry_id_of(file_digest, number), email, at_ms),
            *("" if locale == LOCALES[0] else locale, note),
            *(bucket.removeprefix(redis_keys.ADDRESSES_PREFIX), field),
        ]


def _is_passed_over(fields: dict[str, str]) -> bool:
    """A row of an export that has nobody to put in line: erased, left, or never confirmed."""
    state = fields.get("state", "")
    return state in _PASSED_OVER or (state != "" and not fields.get("email"))


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
