"""Whether the ledger is whole: every reference between its records, in both directions.

    async for finding in check_ledger(ledger, on_progress=print_count): ...

One function for each type of record; a new type gets a function and a line in CHECKS. A page of
records is looked at in one script, so a running ledger can be checked: whatever was atomic when it
was written is seen whole. Memory: some 60 bytes for each account, for the audit's way back, and for
each person let in and each code of a campaign, for the counts.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from waitlist.proofs.addresses import email_digest
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger
from waitlist.storage.ledger_walk import PAGE, Finding, Progress, Walk, chunks, pairs, short
from waitlist.upkeep.line_check import check_addresses, check_entries, check_mails, check_places
from waitlist.upkeep.tally_check import check_tallies

__all__ = ["Finding", "Progress", "check_ledger"]

Check = Callable[[Walk], AsyncIterator[Finding]]


async def check_invites(walk: Walk) -> AsyncIterator[Finding]:
    """Invites, and the accounts and keys that they made."""
    prefixes = [redis_keys.INVITE_PREFIX, redis_keys.ACCOUNT_PREFIX, redis_keys.KEY_PREFIX]
    prefixes += [redis_keys.ACCOUNT_INVITES_PREFIX]
    async for names in walk.names(redis_keys.INVITE_PREFIX):
        for finding in pairs("invite", await walk.ledger.run("check_invites", names, prefixes)):
            yield finding
        walk.count("invite", len(names))


async def check_accounts(walk: Walk) -> AsyncIterator[Finding]:
    """Accounts, and the invites and addresses that lead to them."""
    args = [redis_keys.ACCOUNT_PREFIX, redis_keys.INVITE_PREFIX]
    args += [redis_keys.ACCOUNT_GUESTS_PREFIX, redis_keys.ENTRY_PREFIX]
    async for names in walk.names(redis_keys.ACCOUNT_PREFIX):
        emails = await walk.ledger.run("read_field", names, ["email"])
        records = [redis_keys.email(email_digest(email or "")) for email in emails]
        wrong = await walk.ledger.run("check_accounts", [*names, *records], args)
        for finding in pairs("account", wrong):
            yield finding
        ids = (name.removeprefix(redis_keys.ACCOUNT_PREFIX) for name in names)
        walk.accounts_without_audit.update(map(short, ids))
        walk.count("account", len(names))


async def check_keys(walk: Walk) -> AsyncIterator[Finding]:
    """Keys, and their accounts and numbers."""
    schema = await walk.ledger.run("read_text", [redis_keys.SCHEMA], [])
    of_account = "" if schema == "1" else redis_keys.ACCOUNT_KEYS_PREFIX
    args = [redis_keys.KEY_PREFIX, redis_keys.ACCOUNT_PREFIX, of_account]
    async for names in walk.names(redis_keys.KEY_PREFIX):
        wrong = await walk.ledger.run("check_keys", [redis_keys.KEYS_BY_NUMBER, *names], args)
        for finding in pairs("key", wrong):
            yield finding
        walk.count("key", len(names))


async def check_emails(walk: Walk) -> AsyncIterator[Finding]:
    """Addresses, and the accounts that they lead to."""
    args = [redis_keys.EMAIL_PREFIX, redis_keys.ACCOUNT_PREFIX]
    async for names in walk.names(redis_keys.EMAIL_PREFIX):
        rows = await walk.ledger.run("check_emails", names, args)
        for digest, problem, account_id, email in chunks(rows, 4):
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
            "check_key_numbers", keys, [rank, PAGE, redis_keys.KEY_PREFIX]
        )
        for finding in pairs("key number", wrong):
            yield finding
        walk.count("key number", rows)
        rank += rows
        if rows < PAGE:
            return


async def check_owned(walk: Walk) -> AsyncIterator[Finding]:
    """What accounts have: their keys, the invites they made, who came by those."""
    keys, invites = redis_keys.KEY_PREFIX, redis_keys.INVITE_PREFIX
    owned = (
        ("account's keys", redis_keys.ACCOUNT_KEYS_PREFIX, keys, "account_id"),
        ("account's invites", redis_keys.ACCOUNT_INVITES_PREFIX, invites, "inviter"),
        (
            "account's guests",
            redis_keys.ACCOUNT_GUESTS_PREFIX,
            redis_keys.ACCOUNT_PREFIX,
            "inviter",
        ),
    )
    for record, sets, members, owner in owned:
        async for names in walk.names(sets):
            args = [sets, members, owner, redis_keys.ACCOUNT_PREFIX]
            for finding in pairs(record, await walk.ledger.run("check_owned", names, args)):
                yield finding
            walk.count(record, len(names))


async def check_audit(walk: Walk) -> AsyncIterator[Finding]:
    """The audit against the records, and the accounts of `check_accounts` against the audit."""
    prefixes = [redis_keys.INVITE_PREFIX, redis_keys.ACCOUNT_PREFIX, redis_keys.KEY_PREFIX]
    last_id = "-"
    while last_id:
        last_id, rows, wrong, account_ids = await walk.ledger.run(
            "check_audit", [redis_keys.AUDIT], [last_id, PAGE, *prefixes]
        )
        walk.accounts_without_audit.difference_update(map(short, account_ids))
        for finding in pairs("audit", wrong):
            yield finding
        walk.count("audit", rows)
    if walk.accounts_without_audit:
        async for names in walk.names(redis_keys.ACCOUNT_PREFIX):
            for name in names:
                account_id = name.removeprefix(redis_keys.ACCOUNT_PREFIX)
                if short(account_id) in walk.accounts_without_audit:
                    yield Finding("account", account_id, "the audit knows of no redemption of it")


# The accounts come before the audit, which then misses none that was made meanwhile.
CHECKS: Final[tuple[Check, ...]] = (
    check_invites,
    check_accounts,
    check_keys,
    check_emails,
    check_key_numbers,
    check_owned,
    check_entries,
    check_places,
    check_mails,
    check_addresses,
    check_tallies,
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
