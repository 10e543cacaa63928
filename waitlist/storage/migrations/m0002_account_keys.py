"""To schema 2: each account's keys stand in a sorted set of its own.

Goes through the keys by number, which never change their order, so its place survives a restart of
Redis; a cursor of SCAN would not.
"""

from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger

_KEYS_PER_PAGE = 200


async def page(ledger: Ledger, cursor: str) -> tuple[str, int]:
    """One page; see `Migration.page`."""
    following, rows = await ledger.run(
        "migrate_0002_account_keys",
        [redis_keys.KEYS_BY_NUMBER, redis_keys.MIGRATION],
        [cursor, _KEYS_PER_PAGE, redis_keys.KEY_PREFIX, redis_keys.ACCOUNT_KEYS_PREFIX],
    )
    return str(following), int(rows)
