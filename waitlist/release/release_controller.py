"""Automatic release: one leader measures, decides, writes the decision down and carries it out.

Any number of processes may run a controller; one holds the lease and works, the others wait for
its end. The order is always: note the decision, let people in under the decision's id, note that
it was done. A leader that dies in between leaves the decision open, and the next one carries it out
under the same id, which lets nobody in twice.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from waitlist.errors import GaugeUnavailable, WaitlistError
from waitlist.release.activation_learner import ActivationLearner
from waitlist.release.release_record import ReleaseControl, ReleaseDecision
from waitlist.release.release_sizing import NewcomerUse, ReleaseInputs, SizingPolicy, size_batch
from waitlist.release.release_store import Lease, ReleaseState, ReleaseStore


@dataclass(frozen=True, slots=True)
class ServingLoad:
    """Serving at one moment.

    `capacity_slots`: slots of all replicas that run. `demand_slots`: slots in use and callers who
    wait for one. `overload`: what is too much (callers refused, a long wait), empty where nothing
    is.
    """

    capacity_slots: float
    demand_slots: float
    overload: str


class Newcomers(Protocol):
    """Measures what new people ask; waitlist.release.newcomer_use."""

    async def read(self) -> NewcomerUse:
        """See release_sizing; zeros while nothing is known. Raises WaitlistError."""


class ServingGauge(Protocol):
    """Tells how much serving can do and is asked to do. Read every few seconds by the leader."""

    async def read(self) -> ServingLoad:
        """Raises GaugeUnavailable when serving's state is not known: nobody is let in then."""


class Door(Protocol):
    """The line, and the way in."""

    async def people_waiting(self) -> int:
        """How many could be let in now. Raises WaitlistError."""

    async def is_paused(self) -> bool:
        """Whether operators have paused letting people in. Raises WaitlistError."""

    async def release(self, count: int, decision_id: str) -> int:
        """Lets the first `count` of the line in; returns how many that were, all calls together.

        Idempotent by `decision_id`, for as long as the ledger lives: called again, also by another
        process and at the same time, it lets in whoever is missing from `count` and nobody else.

        Raises WaitlistError: some may have been let in; the call will be repeated.
        """


@dataclass(frozen=True, slots=True)
class ControllerTimes:
    """A new leader works at most `lease_s` + `tick_s` after the old one's death."""

    lease_s: float = 5.0
    tick_s: float = 1.0
    sample_every_s: float = 10.0
    # Four an hour: a day's decisions take 200 KB of the ledger, and people come over hours.
    decide_every_s: float = 900.0
    # A worker that has just begun knows nothing of serving yet: it reads that every second.
    settle_s: float = 10.0


class ReleaseController:
    def __init__(
        self,
        *,
        store: ReleaseStore,
        gauge: ServingGauge,
        door: Door,
        newcomers: Newcomers,
        learner: ActivationLearner,
        policy: SizingPolicy,
        times: ControllerTimes,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds since 1970."""
        self._store = store
        self._gauge = gauge
        self._door = door
        self._newcomers = newcomers
        self._learner = learner
        self._policy = policy
        self._times = times
        self._clock = clock
        self.holder = secrets.token_hex(8)
        self._lease: Lease | None = None
        self._sample_at_s = 0.0
        self._decide_at_s = 0.0
        self._leads_since_s = 0.0
        self.last_error = ""

    @property
    def leads(self) -> bool:
        return self._lease is not None

    async def run(self) -> None:
        """Works until cancelled; then gives the lease back. What fails is tried again."""
        try:
            while True:
                try:
                    await self.step()
                    self.last_error = ""
                except WaitlistError as error:
                    self.last_error = str(error)
                await asyncio.sleep(self._times.tick_s)
        finally:
            await self._give_back()

    async def step(self) -> None:
        """One tick: hold the lease; carry out what is open; measure; decide, when it is time.

        Raises:
            WaitlistError: the tick broke off; the next one goes on.
        """
        lease = await self._store.hold_lease(self.holder, self._times.lease_s)
        if lease is None:
            self._lease = None
            return
        state = await self._store.read()
        if self._lease is None or lease.token != self._lease.token:
            self._learner.restore(state.learned)
            self._sample_at_s = self._decide_at_s = 0.0
            self._leads_since_s = self._clock()
        self._lease = lease
        now_s = self._clock()
        if state.open_decision is not None:
            if not await self._door.is_paused():
                await self._carry_out(state.open_decision)
            return
        if now_s >= self._sample_at_s:
            await self._measure(lease, now_s)
        if now_s >= self._decide_at_s:
            await self._decide(lease, now_s)

    async def _measure(self, lease: Lease, now_s: float) -> None:
        await self._learner.read_on()
        load = await self._read_gauge()
        self._sample_at_s = now_s + self._times.sample_every_s
        if load.capacity_slots > 0:  # an hour without serving tells nothing of what people ask
            await self._store.note_use(lease, now_s, load.demand_slots, self._learner.people_in)

    async def _decide(self, lease: Lease, now_s: float) -> None:
        await self._learner.read_on()
        load = await self._read_gauge()
        if load.capacity_slots == 0 and now_s - self._leads_since_s < self._times.settle_s:
            return  # the next tick looks again, not the next quarter of an hour
        waiting, paused = await self._door.people_waiting(), await self._door.is_paused()
        state = await self._store.read()
        newcomers = await self._newcomers.read()
        refusal = "paused" if paused else state.control.refusal(now_s)
        inputs = self._inputs(now_s, load, waiting, newcomers, state)
        decision = self._decision(lease, inputs, state, refusal)
        self._decide_at_s = now_s + self._times.decide_every_s
        noted = await self._store.note_decision(lease, decision, self._learner.to_json())
        if noted and decision.batch:
            await self._carry_out(decision)

    async def _carry_out(self, decision: ReleaseDecision) -> None:
        released = await self._door.release(decision.batch, decision.decision_id)
        await self._store.close_decision(decision, released, self._clock())

    def _inputs(
        self,
        now_s: float,
        load: ServingLoad,
        waiting: int,
        newcomers: NewcomerUse,
        state: ReleaseState,
    ) -> ReleaseInputs:
        invited, redeemed = self._learner.counts(now_s)
        return ReleaseInputs(
            at_s=now_s,
            capacity_slots=load.capacity_slots,
            overload=load.overload,
            hours=state.hours,
            people_in=self._learner.people_in,
            people_waiting=waiting,
            newcomers=newcomers,
            invited=invited,
            redeemed=redeemed,
        )

    def _decision(
        self, lease: Lease, inputs: ReleaseInputs, state: ReleaseState, refusal: str
    ) -> ReleaseDecision:
        sizing = size_batch(inputs, _policy_now(self._policy, state.control))
        return ReleaseDecision(
            decision_id=f"auto_{lease.token}_{secrets.token_hex(6)}",
            leader=lease.token,
            at_s=inputs.at_s,
            batch=0 if refusal else sizing.batch,
            reason=refusal or sizing.reason,
            target_use=self._policy.target_use,
            inputs=inputs,
            sizing=sizing,
        )

    async def _read_gauge(self) -> ServingLoad:
        try:
            return await self._gauge.read()
        except GaugeUnavailable as error:
            return ServingLoad(0.0, 0.0, f"serving is not known: {error}")

    async def _give_back(self) -> None:
        if self._lease is not None:
            with contextlib.suppress(WaitlistError):  # it ends by itself
                await self._store.drop_lease(self._lease)
            self._lease = None


def _policy_now(policy: SizingPolicy, control: ReleaseControl) -> SizingPolicy:
    if control.batch_max is None:
        return policy
    return replace(policy, batch_max=min(policy.batch_max, control.batch_max))
