"""Revocations as the ledger announces them, for processes that remember keys.

A tombstone on flow already stops a revoked key at its next request; this feed only shortens the
case where flow is gone. Announcements made while nobody listens are lost, as Redis's channels are.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger


class RevocationFeed:
    def __init__(self, ledger_url: str, *, deadline_s: float) -> None:
        """Raises LedgerUnavailable when the URL is none of a Redis."""
        self._ledger = Ledger(ledger_url, deadline_s=deadline_s)

    async def key_ids(self) -> AsyncGenerator[str]:
        """Ids of keys as they are revoked, without end.

        Raises:
            LedgerUnavailable: the connection ended or the ledger fell silent; iterate anew.
        """
        async with aclosing(self._ledger.listen(redis_keys.REVOCATIONS_CHANNEL)) as key_ids:
            async for key_id in key_ids:
                yield key_id

    async def close(self) -> None:
        await self._ledger.close()
