"""Settlements on their way to the flow Redis: in batches by account, off every request's path.

A batch is numbered and sent until Redis has answered; the script counts a number once, so an
answer that was lost to a deadline makes nothing count twice. While Redis is gone settlements are
kept for ten minutes; what is older is dropped, and its reservation stays charged in full.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.limits.plans import Plan
from gateway.telemetry.metrics import SETTLEMENTS_DROPPED, SETTLEMENTS_WAITING

log = structlog.get_logger(__name__)

# What a busy account settles within this time travels as one call.
_GATHER_S = 0.02
_RETRY_S = 0.5
# How long Redis remembers a batch's number, and how long a batch may be sent again: never counted
# twice, however long its answer is out.
KEPT_S = 600.0
_REMEMBERED_MS = 2 * int(KEPT_S) * 1000
# Some 300 bytes each: 30 MB. A worker at its best ends 3,500 requests/s.
_KEPT_MAX = 100_000
_BATCH_MAX = 64
_CALLS_MAX = 256


class Settlement(NamedTuple):
    """One request's correction, as lua/settle.lua reads it. Times in µs since 1970."""

    day: int
    day_since_us: int
    reserved: int
    used: int
    leaked_at_us: int
    ended_at_us: int
    requests_back: int
    request_leaked_at_us: int


@dataclass(slots=True)
class _Account:
    plan: Plan
    waiting: deque[Settlement] = field(default_factory=deque)
    # The batch that is sent until it is answered, its number, and when it was made.
    batch: list[Settlement] = field(default_factory=list)
    number: int = 0
    made_at: float = 0.0


class Settlements:
    def __init__(self, flow: FlowRedis, worker_id: str, *, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never run back."""
        self._flow = flow
        self._worker_id = worker_id
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._numbers = 0
        self._kept = 0
        self._sender: asyncio.Task[None] | None = None

    def add(self, account_id: str, plan: Plan, settlement: Settlement) -> None:
        """Never waits."""
        if self._kept >= _KEPT_MAX:
            SETTLEMENTS_DROPPED.inc()
            return
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = _Account(plan)
        account.plan = plan
        account.waiting.append(settlement)
        self._kept += 1
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all(), name="settlements")

    async def drain(self) -> None:
        """Sends what there is, when the worker stops. What cannot be sent stays charged in full."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        while self._accounts and await self._send_round():
            pass
        if self._kept:
            log.warning("settlements_lost", count=self._kept)

    async def _send_all(self) -> None:
        while self._accounts:
            if not any(len(account.waiting) >= _BATCH_MAX for account in self._accounts.values()):
                await asyncio.sleep(_GATHER_S)
            answered = await self._send_round()
            SETTLEMENTS_WAITING.set(self._kept)
            if not answered:
                await asyncio.sleep(_RETRY_S)

    async def _send_round(self) -> bool:
        """One batch of each account; False when Redis did not answer all of them."""
        names = list(self._accounts)[:_CALLS_MAX]
        return all(await asyncio.gather(*map(self._send, names)))

    async def _send(self, account_id: str) -> bool:
        account = self._accounts[account_id]
        if not account.batch:
            self._make_batch(account)
        plan = account.plan
        args: list[str | int] = [account.number, _REMEMBERED_MS]
        args += (plan.requests_per_minute, plan.tokens_per_minute)
        args += (" ".join(map(str, settlement)) for settlement in account.batch)
        keys = (
            redis_keys.account_limits(account_id),
            redis_keys.settled_batch(account_id, self._worker_id),
        )
        try:
            await self._flow.run("settle", keys, args)
        except FlowUnavailable:
            if self._clock() - account.made_at < KEPT_S:
                return False
            SETTLEMENTS_DROPPED.inc(len(account.batch))
        self._kept -= len(account.batch)
        account.batch = []
        if not account.waiting:
            del self._accounts[account_id]
        return True

    def _make_batch(self, account: _Account) -> None:
        self._numbers += 1
        account.number = self._numbers
        account.made_at = self._clock()
        count = min(_BATCH_MAX, len(account.waiting))
        account.batch = [account.waiting.popleft() for _ in range(count)]
