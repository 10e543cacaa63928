"""One worker's side of the line in front of a pool: requests come, wait, are served or sent away.

The line itself lives on the flow Redis, see line_lease. While that is gone the worker serves its
own tickets from its share of the slots.
"""

import itertools
import time
from collections.abc import Callable, Sequence

from gateway.engines.comeback import CapacityGap
from gateway.engines.pools import Pool, PoolState
from gateway.errors import ApiError, FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.line.line_lease import LineLease
from gateway.line.line_terms import AccountView, LineBounds, kept_ms
from gateway.line.ticket import Passage, Place, SlotAsk, Ticket
from gateway.queue_errors import AccountQueueFull, NoReplica, QueueFull, QueueTimeout
from gateway.telemetry.metrics import FLOW_FALLBACKS

# What a caller is told whose wait ended while nothing ran.
_NOTHING_RUNS = {
    PoolState.STARTING: "The model is still starting.",
    PoolState.SCALED_TO_ZERO: "The model had been put to sleep, and no replica has come up yet.",
    PoolState.DEAD: "Nothing serves this model at the moment.",
}


class PoolLine:
    def __init__(
        self,
        flow: FlowRedis,
        pool: str,
        worker_id: str,
        bounds: LineBounds,
        clock: Callable[[], float],
    ) -> None:
        self._flow = flow
        self._keys = (redis_keys.pool(pool),)
        self._bounds = bounds
        self._clock = clock
        self._numbers = itertools.count()
        self.pool = pool
        self.gap = CapacityGap()
        self.lease = LineLease(flow, pool, worker_id, bounds, clock)
        # The lease's own.
        self.held = self.lease.held
        self.tickets = self.lease.tickets

    async def enter(self, ask: SlotAsk, passage: Passage | None = None) -> Ticket:
        """A ticket, granted at once where a slot is free and nobody waits.

        `passage` is what the request has behind it in line, where it comes back.

        Raises:
            AccountQueueFull: as many of the account's requests wait as may; no place is kept.
            QueueFull: the line is as long as may be; it says whether the caller's place is kept.
        """
        ticket = Ticket(
            f"{time.time_ns() // 1_000_000:013d}-{self.lease.worker_id}-{next(self._numbers):08x}",
            ask, passage or Passage(), now=self._clock(), wait_s_max=self._bounds.wait_s_max,
        )  # fmt: skip
        self.tickets.add(ticket)
        try:
            await self.lease.register(ticket, ticket.mode)
        except FlowUnavailable:
            FLOW_FALLBACKS.labels("slots").inc()
            self.lease.serve_locally()
            self._check_local_bounds(ticket)
        except ApiError:
            self.tickets.remove(ticket)
            raise
        except BaseException:  # hung up while nobody knows what the line has made of it
            self.abandon(ticket)
            raise
        if ticket.granted is None and self.tickets.bytes > self._bounds.bytes_max:
            raise self._queue_full(ticket)
        return ticket

    def leave(self, ticket: Ticket, *, retry_after_s: int = 0) -> bool:
        """Takes a waiting ticket out; its place is kept when the caller is told to come back.

        Whether its place can be promised: nobody keeps it while Redis is gone.
        """
        is_known = self.tickets.leave(ticket, kept_ms(retry_after_s) if retry_after_s else 0)
        if self.tickets.has_leaves:
            self.lease.call_soon()
        return bool(retry_after_s) and is_known and self.lease.is_heard

    def end_long_waits(self, state: PoolState) -> None:
        """Refuses those who have waited as long as may be. `state` is that of the pool now."""
        now = self._clock()
        for ticket in [t for t in self.tickets.waiting.values() if t.deadline <= now]:
            if state is PoolState.RUNNING:
                retry_after_s = self.lease.retry_after_s()
                is_kept = self.leave(ticket, retry_after_s=retry_after_s)
                waited_s = ticket.waited_s(now)
                ticket.tell(QueueTimeout(waited_s, retry_after_s, place_is_kept=is_kept))
            else:
                retry_after_s = self.gap.retry_after_s(now)
                is_kept = self.leave(ticket, retry_after_s=retry_after_s)
                ticket.tell(NoReplica(_NOTHING_RUNS[state], retry_after_s, place_is_kept=is_kept))

    def abandon(self, ticket: Ticket) -> None:
        """Gives up a ticket whose caller hung up, in line or with a slot that has just come."""
        if (granted := ticket.granted) is not None:
            self.release(granted.replica_id, ticket.ask.account_id)
            self.correct(ticket.ask.account_id, -granted.charge)
        else:
            self.leave(ticket)

    def release(self, replica_id: str, account_id: str) -> None:
        """Gives one slot back. Never waits: slots of one turn of the loop travel together."""
        self.held.release(replica_id, account_id)
        self.lease.call_soon()

    def correct(self, account_id: str, charge: float) -> None:
        """What the account was charged too little, or too much where it is below 0."""
        if charge:
            self.held.correct(account_id, charge)
            self.lease.call_soon()

    def look_at(self, pool: Pool) -> None:
        """Notes whether anything runs. A model that sleeps lacks nothing while nobody waits."""
        state = pool.state
        waits = bool(self.tickets.waiting) or self.lease.waiting_everywhere > 0
        self.gap.look(
            self._clock(),
            runs=state is PoolState.RUNNING,
            is_starting=state is PoolState.STARTING,
            is_wanted=waits or state is not PoolState.SCALED_TO_ZERO,
        )

    async def positions(self, tickets: Sequence[Ticket]) -> list[int]:
        """How many stand before each ticket, from one look; -1 for one that does not wait.

        Raises:
            FlowUnavailable: Redis did not answer.
        """
        ids = [ticket.id for ticket in tickets]
        answer: list[int] = await self._flow.run("read_places", self._keys, ids)
        return answer[2:]  # behind grants so far and tickets waiting

    async def account_view(self, account_id: str) -> AccountView:
        """What the account runs here and where its tickets stand, over all workers.

        Raises:
            FlowUnavailable: Redis did not answer.
        """
        _, everywhere, running, *flat = await self._flow.run(
            "read_account", self._keys, (account_id,)
        )
        places = [
            (str(flat[i]), Place(flat[i + 1] + 1, self.lease.drain.estimate(flat[i + 1])))
            for i in range(0, len(flat), 2)
        ]
        return AccountView(running, everywhere, places)

    def _check_local_bounds(self, ticket: Ticket) -> None:
        """The line's bounds while Redis is gone: this worker's share of them.

        Raises:
            AccountQueueFull, QueueFull: as when it is there.
        """
        if ticket.granted is not None:
            return
        if self.lease.locally.is_beyond_the_account(ticket, self.lease.live_workers):
            self.tickets.remove(ticket)
            # Other workers have as many in front of theirs: the rate is that of all together.
            place = self.lease.locally.place_of(ticket.ask.account_id) * self.lease.live_workers
            raise AccountQueueFull(ticket.ask.waiting_requests, self.lease.retry_after_s(place))
        if self.lease.locally.is_beyond_the_line(self._bounds, self.lease.live_workers):
            raise self._queue_full(ticket)

    def _queue_full(self, ticket: Ticket) -> QueueFull:
        retry_after_s = self.lease.retry_after_s()
        is_kept = self.leave(ticket, retry_after_s=retry_after_s)
        return QueueFull(retry_after_s, place_is_kept=is_kept)
