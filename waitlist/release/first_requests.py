"""Accounts that have made their first request: from then on a person is in.

Whoever counts requests calls this with the accounts that it has not told of before; told again,
nothing changes.
"""

from collections.abc import Mapping
from typing import Final

from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger

# Release sizing looks at 1,000 days of one person, three a person at most; some have hours behind
# them.
LATEST_KEPT: Final = 2_000
_ACCOUNTS_PER_CALL = 100


class FirstRequests:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def note(self, first_at_ms: Mapping[str, int]) -> int:
        """Account id -> time of its first request, ms. Returns how many were new.

        Raises:
            LedgerUnavailable, LedgerIncompatible.
        """
        rows, new = list(first_at_ms.items()), 0
        for start in range(0, len(rows), _ACCOUNTS_PER_CALL):
            page = rows[start : start + _ACCOUNTS_PER_CALL]
            new += await self._ledger.run(
                "note_first_requests",
                [
                    redis_keys.AUDIT,
                    redis_keys.LATEST_PEOPLE,
                    *(redis_keys.account(account_id) for account_id, _ in page),
                ],
                [
                    *(self._ledger.actor, redis_keys.ACCOUNT_PREFIX, LATEST_KEPT),
                    *(at_ms for _, at_ms in page),
                ],
            )
        return new
