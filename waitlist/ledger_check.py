"""Whether the ledger is whole: every reference between its records, in both directions.

    async for finding in check_ledger(ledger, on_progress=print_count): ...

One function for each type of record; a new type gets a function and a line in CHECKS. A page of
records is looked at in one script, so a running ledger can be checked: whatever was atomic when it
was written is seen whole. Memory: 16 bytes or so for each account, for the audit's way back.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from waitlist import redis_keys
from waitlist.addresses import email_digest
from waitlist.ledger import Ledger

# 200 records hold the ledger for about a millisecond.
_PAGE: Final = 200
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
            for start in range(0, len(names), _PAGE):
                yield names[start : start + _PAGE]


Check = Callable[[Walk], AsyncIterator[Finding]]


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


async def check_invites(walk: Walk) -> AsyncIterator[Finding]:
    """Invites, and the accounts and keys that they made."""
    prefixes = [redis_keys.INVITE_PREFIX, redis_keys.ACCOUNT_PREFIX, redis_keys.KEY_PREFIX]
    async for names in walk.names(redis_keys.INVITE_PREFIX):
        for finding in _pairs("invite", await walk.ledger.run("check_invites", names, prefixes)):
            yield finding
        walk.count("invite", len(names))


async def check_accounts(walk: Walk) -> AsyncIterator[Finding]:
    """Accounts, and the invites and addresses that lead to them."""
    args = [redis_keys.ACCOUNT_PREFIX, redis_keys.INVITE_PREFIX]
    async for names in walk.names(redis_keys.ACCOUNT_PREFIX):
        emails = await walk.ledger.run("read_field", names, ["email"])
        records = [redis_keys.email(email_digest(email or "")) for email in emails]
        wrong = await walk.ledger.run("check_accounts", [*names, *records], args)
        for finding in _pairs("account", wrong):
            yield finding
        ids = (name.removeprefix(redis_keys.ACCOUNT_PREFIX) for name in names)
        walk.accounts_without_audit.update(map(_short, ids))
        walk.count("account", len(names))


async def check_keys(walk: Walk) -> AsyncIterator[Finding]:
    """Keys, and their accounts and numbers."""
    schema = await walk.ledger.run("read_text", [redis_keys.SCHEMA], [])
    of_account = "" if schema == "1" else redis_keys.ACCOUNT_KEYS_PREFIX
    args = [redis_keys.KEY_PREFIX, redis_keys.ACCOUNT_PREFIX, of_account]
    async for names in walk.names(redis_keys.KEY_PREFIX):
        wrong = await walk.ledger.run("check_keys", [redis_keys.KEYS_BY_NUMBER, *names], args)
        for finding in _pairs("key", wrong):
            yield finding
        walk.count("key", len(names))


async def check_emails(walk: Walk) -> AsyncIterator[Finding]:
    """Addresses, and the accounts that they lead to."""
    args = [redis_keys.EMAIL_PREFIX, redis_keys.ACCOUNT_PREFIX]
    async for names in walk.names(redis_keys.EMAIL_PREFIX):
        rows = await walk.ledger.run("check_emails", names, args)
        for digest, problem, account_id, email in _chunks(rows, 4):
            if problem:
                yield Finding("address", digest, problem)
            elif email and email_digest(email) != digest:
                text = f"it leads to the account {account_id}, which has another address"
                yield Finding("address", digest, text)
        walk.count("address", len(names))


async def check_key_numbers(walk: Walk) -> AsyncIterator[Finding]:
    """The keys by number."""
    keys, rank = [redis_keys.KEYS_BY_NUMBER, redis_keys.KEYS_LAST_NUMBER], 0
    while True:
        rows, wrong = await walk.ledger.run(
            "check_key_numbers", keys, [rank, _PAGE, redis_keys.KEY_PREFIX]
        )
        for finding in _pairs("key number", wrong):
            yield finding
        walk.count("key number", rows)
        rank += rows
        if rows < _PAGE:
            return


async def check_entries(walk: Walk) -> AsyncIterator[Finding]:
    """Places, against the line, the invited and their invites."""
    sets = [redis_keys.LINE, redis_keys.INVITED]
    args = [redis_keys.ENTRY_PREFIX, redis_keys.INVITE_PREFIX]
    async for names in walk.names(redis_keys.ENTRY_PREFIX):
        wrong = await walk.ledger.run("check_entries", [*sets, *names], args)
        for finding in _pairs("entry", wrong):
            yield finding
        walk.count("entry", len(names))


async def check_places(walk: Walk) -> AsyncIterator[Finding]:
    """The line and the invited, against the entries."""
    for name in (redis_keys.LINE, redis_keys.INVITED):
        rank, rows = 0, _PAGE
        while rows == _PAGE:
            rows, wrong = await walk.ledger.run(
                "check_places", [name], [rank, _PAGE, redis_keys.ENTRY_PREFIX]
            )
            for finding in _pairs("place", wrong):
                yield finding
            walk.count("place", rows)
            rank += rows


async def check_audit(walk: Walk) -> AsyncIterator[Finding]:
    """The audit against the records, and the accounts of `check_accounts` against the audit."""
    prefixes = [redis_keys.INVITE_PREFIX, redis_keys.ACCOUNT_PREFIX, redis_keys.KEY_PREFIX]
    last_id = "-"
    while last_id:
        last_id, rows, wrong, account_ids = await walk.ledger.run(
            "check_audit", [redis_keys.AUDIT], [last_id, _PAGE, *prefixes]
        )
        walk.accounts_without_audit.difference_update(map(_short, account_ids))
        for finding in _pairs("audit", wrong):
            yield finding
        walk.count("audit", rows)
    if walk.accounts_without_audit:
        async for names in walk.names(redis_keys.ACCOUNT_PREFIX):
            for name in names:
                account_id = name.removeprefix(redis_keys.ACCOUNT_PREFIX)
                if _short(account_id) in walk.accounts_without_audit:
                    yield Finding("account", account_id, "the audit knows of no redemption of it")


# The accounts come before the audit, which then misses none that was made meanwhile.
CHECKS: Final[tuple[Check, ...]] = (
    check_invites,
    check_accounts,
    check_keys,
    check_emails,
    check_key_numbers,
    check_entries,
    check_places,
    check_audit,
)


async def check_ledger(
    ledger: Ledger,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    checks: Sequence[Check] = CHECKS,
) -> AsyncIterator[Finding]:
    """Everything that is wrong, as it is found.

    Raises:
        LedgerUnavailable, LedgerIncompatible: the check could not go on.
    """
    walk = Walk(ledger, on_progress)
    for check in checks:
        async for finding in check(walk):
            yield finding


def _short(account_id: str) -> int:
    """64 bits that stand for an account id."""
    return int.from_bytes(hashlib.blake2b(account_id.encode(), digest_size=8).digest(), "big")


def _pairs(record: str, flat: Sequence[str]) -> Iterator[Finding]:
    return (Finding(record, subject, problem) for subject, problem in _chunks(flat, 2))


def _chunks(flat: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (flat[start : start + size] for start in range(0, len(flat), size))
