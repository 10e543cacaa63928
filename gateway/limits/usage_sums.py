"""What requests used, summed up and added to the ledger's usage history once a second.

One numbered batch at a time is sent until the ledger has answered; the ledger counts a number
once. While the ledger is gone the sums grow in the worker, one row for each account, day and
model; at the most a second of them is lost with a worker that is killed.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog

from gateway.answer.usage import Usage
from gateway.telemetry.metrics import USAGE_DROPPED

log = structlog.get_logger(__name__)

_FLUSH_PERIOD_S = 1.0
# A batch of 200 rows holds the ledger for about a millisecond.
_BATCH_ROWS_MAX = 200
# Some 250 bytes each. Keys go on for five minutes without the ledger, so few accounts get here.
_ROWS_MAX = 100_000


class UsageRow(NamedTuple):
    """Sums of one account, UTC day (days since 1970) and model."""

    account_id: str
    day: int
    model: str
    requests: int
    prompt_tokens: int
    output_tokens: int


class UsageLedgerUnavailable(Exception):
    """The usage history cannot be read or written now."""


class UsageLedger(Protocol):
    """Where the usage history is kept. `gateway.app` wires the waitlist's ledger here."""

    async def add(self, writer: str, number: int, rows: Sequence[UsageRow]) -> None:
        """Adds the rows, once for each number of a writer; numbers rise.

        Raises:
            UsageLedgerUnavailable: the ledger is gone or too slow; maybe they were added.
        """

    async def tokens_used(self, account_id: str, day: int) -> int:
        """Prompt and output tokens of the account on that day.

        Raises:
            UsageLedgerUnavailable: the ledger is gone or too slow.
        """


class UsageSums:
    """This worker's use that the ledger has not been told yet."""

    def __init__(self, ledger: UsageLedger) -> None:
        self._ledger = ledger
        self._writer = uuid.uuid4().hex
        self._number = 0
        self._sums: dict[tuple[str, int, str], list[int]] = {}
        # The batch that is sent until it is answered.
        self._batch: list[UsageRow] = []

    def add(self, account_id: str, day: int, model: str, usage: Usage) -> None:
        """Counts one request. Never waits."""
        key = (account_id, day, model)
        sums = self._sums.get(key)
        if sums is None:
            if len(self._sums) >= _ROWS_MAX:
                USAGE_DROPPED.inc()
                return
            sums = self._sums[key] = [0, 0, 0]
        sums[0] += 1
        sums[1] += usage.prompt_tokens
        sums[2] += usage.output_tokens

    def waiting_tokens(self, account_id: str, day: int) -> int:
        """What this worker has counted of an account's day and not added yet."""
        waiting = [UsageRow(*key, *sums) for key, sums in self._sums.items()]
        return sum(
            row.prompt_tokens + row.output_tokens
            for row in waiting + self._batch
            if (row.account_id, row.day) == (account_id, day)
        )

    async def keep_adding(self) -> None:
        """Adds what comes once a second until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_PERIOD_S)
            try:
                await self.flush()
            except UsageLedgerUnavailable as error:
                log.warning("usage_not_added", rows=len(self._sums), error=str(error))

    async def flush(self) -> None:
        """Adds everything that there is by now.

        Raises:
            UsageLedgerUnavailable: what was not added is kept for the next time.
        """
        while self._batch or self._sums:
            if not self._batch:
                keys = list(self._sums)[:_BATCH_ROWS_MAX]
                self._batch = [UsageRow(*key, *self._sums.pop(key)) for key in keys]
                self._number += 1
            await self._ledger.add(self._writer, self._number, self._batch)
            self._batch = []

    async def drain(self) -> None:
        """Adds what there is, when the worker stops."""
        with contextlib.suppress(UsageLedgerUnavailable):
            await self.flush()
        if self._batch or self._sums:
            log.warning("usage_lost", rows=len(self._batch) + len(self._sums))
