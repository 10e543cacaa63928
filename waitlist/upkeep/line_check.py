"""Whether the line is whole: places, addresses and mails against each other."""

from collections.abc import AsyncIterator

from waitlist.proofs.addresses import email_digest
from waitlist.storage import redis_keys
from waitlist.storage.ledger_walk import PAGE, Finding, Walk, chunks, pairs

# Buckets of a million people hold 15 addresses each; of ten at once the ledger reads 150.
_BUCKETS_PER_CALL = 10


async def check_entries(walk: Walk) -> AsyncIterator[Finding]:
    """Places, against the line, the pending and invited, their invites, addresses and accounts."""
    sets = [redis_keys.LINE, redis_keys.INVITED, redis_keys.PENDING]
    prefixes = [redis_keys.ENTRY_PREFIX, redis_keys.INVITE_PREFIX, redis_keys.ACCOUNT_PREFIX]
    async for names in walk.names(redis_keys.ENTRY_PREFIX):
        emails = await walk.ledger.run("read_field", names, ["email"])
        digests = [email_digest(email or "") for email in emails]
        places = [redis_keys.addresses(digest) for digest in digests]
        buckets, fields = [bucket for bucket, _ in places], [field for _, field in places]
        accounts = [redis_keys.email(digest) for digest in digests]
        wrong = await walk.ledger.run(
            "check_entries", [*sets, *names, *buckets, *accounts], [*prefixes, *fields]
        )
        for finding in pairs("entry", wrong):
            yield finding
        walk.count("entry", len(names))


async def check_places(walk: Walk) -> AsyncIterator[Finding]:
    """The line, the pending and the invited, against the entries, and the last number."""
    for name in (redis_keys.LINE, redis_keys.INVITED, redis_keys.PENDING):
        rank, rows = 0, PAGE
        while rows == PAGE:
            rows, wrong = await walk.ledger.run(
                "check_places", [name], [rank, PAGE, redis_keys.ENTRY_PREFIX]
            )
            for finding in pairs("place", wrong):
                yield finding
            walk.count("place", rows)
            rank += rows
    keys = [redis_keys.LINE, redis_keys.LINE_LAST_NUMBER]
    for finding in pairs("place", await walk.ledger.run("check_last_number", keys, [])):
        yield finding


async def check_mails(walk: Walk) -> AsyncIterator[Finding]:
    """Mails that wait or are held, against the entries that they are for."""
    for name in (redis_keys.OUTBOX, redis_keys.OUTBOX_HELD):
        rank, rows = 0, PAGE
        while rows == PAGE:
            rows, wrong = await walk.ledger.run(
                "check_mails", [name], [rank, PAGE, redis_keys.ENTRY_PREFIX]
            )
            for finding in pairs("mail", wrong):
                yield finding
            walk.count("mail", rows)
            rank += rows


async def check_addresses(walk: Walk) -> AsyncIterator[Finding]:
    """The index of addresses, against the entries that it leads to."""
    args = [redis_keys.ADDRESSES_PREFIX, redis_keys.ENTRY_PREFIX]
    async for names in walk.names(redis_keys.ADDRESSES_PREFIX):
        for some in chunks(names, _BUCKETS_PER_CALL):
            rows = await walk.ledger.run("check_addresses", some, args)
            for bucket, field, entry_id, email in chunks(rows, 4):
                subject = f"{bucket}:{field}"
                expected = redis_keys.addresses(email_digest(email))
                if not email:
                    text = f"it leads to the place {entry_id}, which is not there or was erased"
                    yield Finding("address index", subject, text)
                elif expected != (redis_keys.ADDRESSES_PREFIX + bucket, field):
                    text = f"it leads to the place {entry_id}, which has another address"
                    yield Finding("address index", subject, text)
            walk.count("address index", len(rows) // 4)
