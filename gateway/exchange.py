"""One admitted request: a slot, the engine, its bytes to the caller, and what it cost."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from gateway.answer.relay import Relay
from gateway.answer.usage import Usage
from gateway.endpoints import Endpoint
from gateway.engines.pools import Pool
from gateway.engines.successor import FAILED_S_MAX, GONE_S_MAX, another_may_come
from gateway.errors import (
    ApiError,
    EngineAbsent,
    EngineBroken,
    EngineBusy,
    EngineFailed,
    EngineRefused,
    EngineUnreachable,
    StreamLifeExceeded,
    Unavailable,
    retry_headers,
)
from gateway.gate import Gate
from gateway.limits.reservation import Reservation
from gateway.line.slot import Slot
from gateway.line.ticket import Passage, SlotAsk
from gateway.queue_errors import Draining
from gateway.telemetry.line_metrics import GRANT_TO_FIRST_BYTE
from gateway.telemetry.metrics import ENGINE_FAULTS, labelled

log = structlog.get_logger(__name__)

# The replica that was chosen, and one other when that one gave no byte of an answer. One that no
# connection could be made to was never asked.
_ATTEMPTS = 2


class Reached(Enum):
    """How far a request came, which decides what it costs."""

    NO_ENGINE = "no engine"
    ENGINE = "engine"
    REFUSED = "refused by the engine"


@dataclass(slots=True)
class Work:
    """What the engine is to do, for whom, and what was reserved for it."""

    endpoint: Endpoint
    pool: Pool
    body: bytes
    reservation: Reservation
    with_notices: bool
    prefix: str


class Exchange:
    """Runs once. Whatever happens, `settle` is called at the end."""

    def __init__(self, gate: Gate, work: Work, relay: Relay, state: dict[str, Any]) -> None:
        self._gate = gate
        self._work = work
        self._relay = relay
        self._state = state
        self._reached = Reached.NO_ENGINE
        self._passage = Passage()
        self._attempts_left = _ATTEMPTS

    async def run(self) -> None:
        """The whole answer; faults after the status is out are told inside the stream.

        Raises:
            ApiError: nothing is out yet; the caller is to be told.
            EngineBroken: a body that does not stream must be cut.
        """
        try:
            await self._attempts()
            return
        except TimeoutError:
            fault: ApiError = StreamLifeExceeded(
                f"The answer took longer than {self._gate.lives.after_s:g} s and was ended.",
                headers={"x-should-retry": "false"},
            )
        except EngineUnreachable:
            fault = Unavailable(
                "The engine did not answer. Try again shortly.",
                code="engine_unreachable",
                headers=retry_headers(2),
            )
        except EngineBroken:
            fault = Unavailable(
                "The engine broke off while answering. Try again shortly.",
                code="engine_gone",
                headers=retry_headers(2),
            )
        except ApiError as error:
            fault = error
        except asyncio.CancelledError:
            if self._relay.client_is_gone or not self._gate.stopping():
                raise
            # The server cancels what runs longer than a stopping worker may, and then closes
            # the loop, which leaves time for some words.
            cancelled = asyncio.current_task()
            assert cancelled is not None
            cancelled.uncancel()
            fault = Draining(was_running=True)
        try:
            if not self._relay.started:
                raise fault
            self._state["code"] = fault.code
            await self._relay.end_with(fault)
        finally:
            # Its traceback holds this frame: a refused request would be a cycle, 5 KB that wait
            # for the collector, which seldom comes.
            del fault

    def settle(self) -> None:
        """Gives back what was reserved and not used, in the account's limits and in the line."""
        limits, reservation = self._gate.limits, self._work.reservation
        if self._reached is Reached.NO_ENGINE:
            limits.give_back(reservation)
            used = 0
        else:
            usage = Usage(0, 0, exact=True)
            if self._reached is Reached.ENGINE:
                usage = self._relay.usage(reservation.prompt_tokens)
            limits.settle(reservation, usage)
            used = usage.prompt_tokens + usage.output_tokens
        if charged := self._passage.charged:
            charge = used / reservation.plan.weight - charged
            self._gate.admission.correct(self._work.pool.name, reservation.account_id, charge)

    async def _attempts(self) -> None:
        slot = await self._slot()
        with self._gate.lives.begin():  # one life for all
            while not await self._attempt(slot):
                slot = await self._slot()

    async def _attempt(self, slot: Slot) -> bool:
        """Whether the caller has its answer; False where another replica is to be asked for it.

        Raises:
            EngineUnreachable, EngineFailed, EngineBusy, EngineRefused, EngineBroken: this is the
                end; what was reached is noted.
        """
        self._reached = Reached.ENGINE  # also for who hangs up from here on
        try:
            try:
                await self._answer(slot)
            finally:  # before another replica is waited for
                self._gate.admission.release(slot)
            return True
        except (EngineRefused, EngineBusy) as error:
            refused = isinstance(error, EngineRefused)
            self._reached = Reached.REFUSED if refused else Reached.NO_ENGINE
            raise
        except (EngineUnreachable, EngineBroken, EngineFailed) as error:
            self._note_fault(error, slot)
            if self._relay.has_passed:
                raise
            # The caller has nothing of an answer yet: as if this replica had never been asked.
            self._reached = Reached.NO_ENGINE
            if not (isinstance(error, EngineAbsent) and self._gate.admission.leave_out(slot)):
                self._attempts_left -= 1
                self._passage.avoid = slot.replica.replica_id
            if not self._attempts_left or not await self._another_may_come(error):
                raise
            return False
        finally:
            self._relay.end_prefill()

    def _note_fault(self, error: Exception, slot: Slot) -> None:
        if isinstance(error, EngineFailed):
            return  # the relay has, with what the engine said
        kind = "unreachable" if isinstance(error, EngineUnreachable) else "broken"
        ENGINE_FAULTS.labels(kind).inc()
        log.warning(
            f"engine_{kind}",
            request_id=self._state["request_id"],
            replica=slot.replica.replica_id,
            attempt=_ATTEMPTS + 1 - self._attempts_left,
            error=str(error),
        )

    async def _another_may_come(self, error: Exception) -> bool:
        return await another_may_come(
            self._gate.capacity,
            self._work.pool.name,
            than=self._passage.avoid,
            within_s=FAILED_S_MAX if isinstance(error, EngineFailed) else GONE_S_MAX,
        )

    async def _slot(self) -> Slot:
        self._state["phase"] = "queued"
        work, plan = self._work, self._work.reservation.plan
        slot = await self._gate.entrance.slot(
            work.pool,
            SlotAsk(
                account_id=work.reservation.account_id,
                charge=work.reservation.tokens / plan.weight,
                concurrent_requests=plan.concurrent_requests,
                waiting_requests=plan.waiting_requests,
                body_bytes=len(work.body),
                tokens=work.reservation.tokens,
                prefix=work.prefix,
            ),
            self._relay,
            model=work.reservation.model,
            plan=plan.name,
            passage=self._passage,
            with_notices=work.with_notices,
        )
        self._state["replica"] = slot.replica.replica_id
        return slot

    async def _answer(self, slot: Slot) -> None:
        """Sends the request and passes the answer on.

        Raises:
            EngineUnreachable: no byte of an answer came.
            EngineFailed, EngineBusy, EngineRefused, EngineBroken: see Relay.pass_on.
        """
        state, work = self._state, self._work
        state["phase"] = "prefill"
        headers: Mapping[str, str] = {"x-request-id": state["request_id"]}
        with await self._gate.upstream.post(
            slot.replica.url, work.endpoint.path, work.body, headers
        ) as answer:
            to_first_byte = labelled(GRANT_TO_FIRST_BYTE, work.reservation.model)
            to_first_byte.observe(answer.sent_at - slot.granted_at)
            state["phase"] = "streaming"
            await self._relay.pass_on(answer)
