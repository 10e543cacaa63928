"""Whether counts are right: people let in by batch, codes and accounts by campaign and by code.

What is counted goes on while it is counted, so each count is read before and after: it is right
where what was found lies between the two.
"""

from collections import Counter
from collections.abc import AsyncIterator

from waitlist.storage import redis_keys
from waitlist.storage.ledger_walk import PAGE, Finding, Walk, chunks, short

# What a count is of, and the record that states it.
Tally = Counter[tuple[str, str]]
_WORDS = {
    "batch": "it let {stated} people in, but {found} invites are of it",
    "campaign codes": "it made {stated} codes, but {found} are there",
    "campaign": "{stated} accounts came by it, but {found} are there",
    "invite": "it was used {stated} times, but {found} accounts came by it",
}


async def check_tallies(walk: Walk) -> AsyncIterator[Finding]:
    """Batches, campaigns and codes for many, against invites and accounts."""
    before = await _stated(walk)
    found, uses_before = await _found_invites(walk)
    found += await _found_accounts(walk)
    codes = [name for _, name in uses_before]
    before += uses_before
    after = await _stated(walk) + await _uses(walk, codes)
    for of in before.keys() | after.keys() | found.keys():
        if not before[of] <= found[of] <= after[of]:
            kind, name = of
            text = _WORDS[kind].format(stated=after[of], found=found[of])
            yield Finding(kind.partition(" ")[0], name, text)


async def _stated(walk: Walk) -> Tally:
    """What batches and campaigns say of themselves."""
    stated: Tally = Counter()
    for prefix, kind, field in (
        (redis_keys.BATCH_PREFIX, "batch", "released"),
        (redis_keys.CAMPAIGN_PREFIX, "campaign codes", "codes"),
        (redis_keys.CAMPAIGN_PREFIX, "campaign", "redeemed"),
    ):
        async for names in walk.names(prefix):
            values = await walk.ledger.run("read_field", names, [field])
            for name, value in zip(names, values, strict=True):
                stated[kind, name.removeprefix(prefix)] = int(value or 0)
    return stated


async def _uses(walk: Walk, invite_ids: list[str]) -> Tally:
    """How often codes for many say that they were used."""
    used: Tally = Counter()
    for ids in chunks(invite_ids, PAGE):
        names = [redis_keys.invite(invite_id) for invite_id in ids]
        values = await walk.ledger.run("read_field", names, ["uses"])
        for invite_id, value in zip(ids, values, strict=True):
            used["invite", invite_id] = int(value or 0)
    return used


async def _found_invites(walk: Walk) -> tuple[Tally, Tally]:
    """Invites by batch and campaign, and how often those for many were used by then."""
    found: Tally = Counter()
    uses: Tally = Counter()
    seen: set[int] = set()
    prefix = redis_keys.INVITE_PREFIX
    async for names in walk.names(prefix):
        rows = await walk.ledger.run("tally_invites", names, [prefix])
        for invite_id, batch_id, campaign, used in chunks(rows, 4):
            if short(invite_id) in seen:  # a walk may meet a record twice
                continue
            seen.add(short(invite_id))
            if batch_id:
                found["batch", batch_id] += 1
            if campaign:
                found["campaign codes", campaign] += 1
            if used:
                uses["invite", invite_id] = int(used)
    return found, uses


async def _found_accounts(walk: Walk) -> Tally:
    """Accounts by campaign, and by code for many."""
    found: Tally = Counter()
    seen: set[int] = set()
    args = [redis_keys.ACCOUNT_PREFIX, redis_keys.INVITE_PREFIX]
    async for names in walk.names(redis_keys.ACCOUNT_PREFIX):
        rows = await walk.ledger.run("tally_accounts", names, args)
        for account_id, campaign, invite_id in chunks(rows, 3):
            if short(account_id) in seen:
                continue
            seen.add(short(account_id))
            if campaign:
                found["campaign", campaign] += 1
            if invite_id:
                found["invite", invite_id] += 1
    return found
