"""A caller's wait for a slot: from asking to having it, told of its place meanwhile."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from gateway.answer.relay import Relay
from gateway.engines.pools import Pool
from gateway.errors import ApiError
from gateway.line.admission import Admission
from gateway.line.slot import Slot
from gateway.line.ticket import Granted, Passage, Place, SlotAsk, Ticket
from gateway.queue_errors import Draining
from gateway.telemetry.line_metrics import (
    ADMITTED,
    ESTIMATE_KEPT,
    ESTIMATE_RATIO,
    QUEUE_WAIT,
    REFUSED,
    WAITING,
)
from gateway.telemetry.metrics import labelled

_NEVER = float("inf")
_AT_ONCE: AbstractContextManager[None] = nullcontext()
# Capacity on the flow Redis follows with the next heartbeat, within a second.
_UNTIL_KNOWN_S = 0.2


@dataclass(frozen=True, slots=True)
class NoticeTimes:
    """When a waiting caller first hears of its place, and then how often, in seconds.

    Status and headers go out with the first notice, so it comes late enough that most refusals
    keep their true status.
    """

    first_stream_s: float
    first_json_s: float
    every_s: float

    def first_s(self, *, stream: bool) -> float:
        return self.first_stream_s if stream else self.first_json_s

    def due_s(self, relay: Relay) -> float:
        """How long a caller stays without a notice from now on."""
        if relay.started:  # it waits once more, for another replica
            return self.every_s
        return self.first_s(stream=relay.asked_for_stream)


class LineEntrance:
    """The step between the rate and the engine."""

    def __init__(
        self, admission: Admission, notices: NoticeTimes, *, clock: Callable[[], float]
    ) -> None:
        self._admission = admission
        self._notices = notices
        self._clock = clock

    async def slot(
        self,
        pool: Pool,
        ask: SlotAsk,
        relay: Relay,
        *,
        model: str,
        plan: str,
        passage: Passage,
        with_notices: bool = True,
    ) -> Slot:
        """A slot, after as long a wait as the line makes.

        `model` is the one that was asked for, which may share the pool with others. `passage` is
        what the request has behind it in line, and is brought up to date: what it was charged is
        for the caller to settle, with a slot or without.

        Raises:
            ApiError: the line refuses, or the wait lasted too long.
        """
        is_first = not passage.was_granted
        try:
            while True:
                ticket = await self._admission.enter(pool, ask, passage)
                waited = ticket.granted is None
                counted = labelled(WAITING, model, plan).track_inprogress() if waited else _AT_ONCE
                with counted:
                    granted = await self._turn(pool, ticket, relay, model, with_notices)
                passage.was_granted = True
                passage.charged += granted.charge
                passage.waited_s = ticket.waited_s(self._clock())
                if slot := self._admission.slot_of(pool, ticket, granted):
                    break
                # Its replica went between the grant and now: first in line once more, as it has
                # paid. By name the replica is not avoided, since an upstream server comes back
                # under the same one.
                passage.waited_s += _UNTIL_KNOWN_S
                await asyncio.sleep(_UNTIL_KNOWN_S)
        except ApiError as error:
            labelled(REFUSED, model, plan, error.code).inc()
            raise
        if is_first:  # on its way to another replica a request was admitted before
            labelled(ADMITTED, model, plan, "yes" if waited else "no").inc()
            labelled(QUEUE_WAIT, model, plan).observe(passage.waited_s)
        self._measure_estimate(model, ticket, served=True)
        relay.tell_of_prefill(every_s=self._notices.every_s)
        return slot

    async def _turn(
        self, pool: Pool, ticket: Ticket, relay: Relay, model: str, with_notices: bool
    ) -> Granted:
        due_s = self._notices.due_s(relay) if with_notices else _NEVER
        ticket.notice_at = ticket.entered_at + due_s
        try:
            while isinstance(news := await ticket.next_news(), Place):
                await relay.tell_place(news)
                ticket.notice_at = self._clock() + self._notices.every_s
        except ApiError as error:
            if not isinstance(error, Draining):  # which ends the wait for reasons of its own
                self._measure_estimate(model, ticket, served=False)
            raise
        except BaseException:  # hung up
            self._admission.abandon(pool, ticket)
            raise
        return news

    def _measure_estimate(self, model: str, ticket: Ticket, *, served: bool) -> None:
        """Holds a wait against what was foretold.

        One that lasted too long counts with its time so far: left out, a line that stands still
        would look well foretold.
        """
        if ticket.foretold is None:
            return
        estimate, foretold_at = ticket.foretold
        took_s = self._clock() - foretold_at
        ESTIMATE_RATIO.labels(model).observe(took_s / max(estimate.p50_s, 0.001))
        if served or took_s > estimate.p90_s:  # else nobody knows whether it would have been kept
            ESTIMATE_KEPT.labels(model, "yes" if took_s <= estimate.p90_s else "no").inc()
