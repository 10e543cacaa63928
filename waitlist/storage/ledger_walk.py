"""Walking over a ledger in pages, for its checks: what was found, and how far it is."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger

# 200 records hold the ledger for about a millisecond.
PAGE: Final = 200
# 10,000 buckets of the hash table, empty ones included, take SCAN under a millisecond.
_SCAN_STEP: Final = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one record. Holds ids and digests, never an address or a code."""

    record: str
    subject: str
    problem: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a check has come."""

    record: str
    checked: int


class Walk:
    """A check under way: the ledger in pages, and what one check leaves for a later one."""

    def __init__(self, ledger: Ledger, on_progress: Callable[[Progress], None]) -> None:
        self.ledger = ledger
        self.accounts_without_audit: set[int] = set()
        self._on_progress = on_progress
        self._checked: dict[str, int] = {}

    def count(self, record: str, rows: int) -> None:
        """Notes rows as checked."""
        self._checked[record] = self._checked.get(record, 0) + rows
        self._on_progress(Progress(record, self._checked[record]))

    async def names(self, prefix: str) -> AsyncIterator[list[str]]:
        """The names with a prefix, in pages. What is there all the while comes at least once."""
        async for names in scan_names(self.ledger, f"{prefix}*"):
            for start in range(0, len(names), PAGE):
                yield names[start : start + PAGE]


async def scan_names(ledger: Ledger, pattern: str) -> AsyncIterator[list[str]]:
    """All names that fit a pattern, in steps. Raises what the ledger raises."""
    cursor = "0"
    while True:
        cursor, names = await ledger.run(
            "scan_names", [redis_keys.SCHEMA], [cursor, pattern, _SCAN_STEP]
        )
        yield names
        if cursor == "0":
            return


def short(record_id: str) -> int:
    """64 bits that stand for a record."""
    return int.from_bytes(hashlib.blake2b(record_id.encode(), digest_size=8).digest(), "big")


def pairs(record: str, flat: Sequence[str]) -> Iterator[Finding]:
    """Findings of what a script of lua/check_*.lua returns: subject and problem in turns."""
    return (Finding(record, subject, problem) for subject, problem in chunks(flat, 2))


def chunks(flat: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (flat[start : start + size] for start in range(0, len(flat), size))
