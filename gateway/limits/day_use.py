"""What an account has used today, asked of the ledger when the flow Redis does not know it.

That is at the first request of an account and day, and after flow was restarted empty. While the
ledger is gone the count begins with what this worker knows itself, is marked as a guess, and is
put right from the ledger once that answers again.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from gateway.limits.usage_sums import UsageLedger, UsageLedgerUnavailable, UsageSums
from gateway.telemetry.metrics import LEDGER_FALLBACKS

log = structlog.get_logger(__name__)

# After a failure nobody waits for the ledger for so long: an asking may take its whole deadline.
_PAUSE_AFTER_FAILURE_S = 1.0
# Corrections that wait for their account's next request.
_CORRECTIONS_MAX = 50_000


class DaySeed(NamedTuple):
    """Tokens used on a day (days since 1970), by the ledger or by guess."""

    day: int
    tokens: int
    known: bool


class DayUse:
    def __init__(self, ledger: UsageLedger, sums: UsageSums, *, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never run back."""
        self._ledger = ledger
        self._sums = sums
        self._clock = clock
        self._paused_until = 0.0
        # One asking an account, however many of its requests come at once.
        self._asking: dict[str, asyncio.Task[DaySeed]] = {}
        self._corrections: dict[str, DaySeed] = {}

    async def ask(self, account_id: str, day: int) -> DaySeed:
        """The ledger's word, or a guess while it is gone."""
        asking = self._asking.get(account_id)
        if asking is None:
            asking = self._start_asking(account_id, day)
        return await asyncio.shield(asking)

    def put_right(self, account_id: str, day: int) -> None:
        """Asks for a day that was guessed; `correction` has the answer later. Never waits."""
        if account_id in self._asking or account_id in self._corrections:
            return
        if self._clock() < self._paused_until or len(self._corrections) >= _CORRECTIONS_MAX:
            return

        def keep(asking: "asyncio.Task[DaySeed]") -> None:
            if not asking.cancelled() and asking.result().known:
                self._corrections[account_id] = asking.result()

        self._start_asking(account_id, day).add_done_callback(keep)

    def correction(self, account_id: str) -> DaySeed | None:
        """The ledger's word for an account whose day was guessed, once."""
        return self._corrections.pop(account_id, None) if self._corrections else None

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _start_asking(self, account_id: str, day: int) -> "asyncio.Task[DaySeed]":
        asking = asyncio.create_task(self._ask(account_id, day), name="day-use")
        self._asking[account_id] = asking
        asking.add_done_callback(lambda _: self._asking.pop(account_id, None))
        return asking

    async def _ask(self, account_id: str, day: int) -> DaySeed:
        if self._clock() >= self._paused_until:
            try:
                return DaySeed(day, await self._ledger.tokens_used(account_id, day), True)
            except UsageLedgerUnavailable as error:
                self._paused_until = self._clock() + _PAUSE_AFTER_FAILURE_S
                log.warning("day_use_unknown", error=str(error))
        LEDGER_FALLBACKS.labels("day_use").inc()
        return DaySeed(day, self._sums.waiting_tokens(account_id, day), False)
