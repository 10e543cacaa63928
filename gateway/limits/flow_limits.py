"""Holds an account to its plan: requests and tokens a minute, tokens a day. Exact over all workers.

Tokens are charged before dispatch (prompt + largest answer) in the one call that also takes the
request and looks for the key's tombstone, and corrected when the request ends. So a worker that
dies leaves its requests charged in full. While the flow Redis is gone each worker guards its
share, the limits divided by the living workers, and counts it in `floodgate_flow_fallbacks_total`.
"""

import uuid
from collections.abc import Callable

from gateway.answer.usage import Usage
from gateway.auth import Caller, revoked_key
from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.limits.day_use import DaySeed, DayUse
from gateway.limits.local_limits import LocalLimits
from gateway.limits.plans import Plan
from gateway.limits.rate_headers import wire_headers
from gateway.limits.reservation import (
    Budget,
    Decision,
    Reservation,
    Terms,
    TokenAsk,
    Verdict,
    refusal,
)
from gateway.limits.reserve_answer import DayUnknown, Decided, KeyRevoked, parse_answer
from gateway.limits.settlements import Settlement, Settlements
from gateway.limits.usage_sums import UsageLedger, UsageSums
from gateway.telemetry.metrics import (
    FLOW_FALLBACKS,
    TOKENS_RESERVED,
    TOKENS_RETURNED,
    TOKENS_SETTLED,
    labelled,
)

# Once to learn that the day is unknown and once to tell it; once more where midnight comes between
# or Redis's clock was set forward.
_TRIES = 3


class Limits:
    def __init__(
        self,
        flow: FlowRedis,
        ledger: UsageLedger,
        *,
        live_workers: Callable[[], int],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds that never run back, `wall_clock` seconds since 1970."""
        self._flow = flow
        self._live_workers = live_workers
        self._wall_clock = wall_clock
        # How far the flow Redis's clock is ahead of ours, at most, by its last answer.
        self._ahead_us: int | None = None
        self._local = LocalLimits(wall_clock)
        self._settlements = Settlements(flow, uuid.uuid4().hex, clock=clock)
        self._sums = UsageSums(ledger)
        self._day_use = DayUse(ledger, self._sums, clock=clock)

    async def reserve(self, caller: Caller, plan: Plan, ask: TokenAsk) -> Reservation:
        """Charges one request and the tokens that it may use. A refusal charges nothing.

        Either `settle` or `give_back` must be called once for what it returns.

        Raises:
            AuthenticationFailed: the key was revoked.
            RateLimited: the account has no request left for now.
            TokensLimited: it has too few tokens left for now, or in any minute.
            BudgetExhausted: it has too few tokens left today, or on any day.
        """
        budget = Budget.of(plan)
        share: Budget | None = None
        terms = Terms.of(ask, plan, budget)
        try:
            decision = await self._reserve_in_flow(caller, budget, terms)
        except FlowUnavailable:
            FLOW_FALLBACKS.labels("limits").inc()
            budget = share = budget.share(max(1, self._live_workers()))
            terms = Terms.of(ask, plan, budget)
            decision = self._local.reserve(caller.account_id, budget, terms)
        if decision.verdict is not Verdict.RESERVED:
            raise refusal(decision, plan, budget, terms)
        tokens = terms.prompt_tokens + terms.choices * decision.cap
        labelled(TOKENS_RESERVED, ask.model, plan.name).inc(tokens)
        return Reservation(
            account_id=caller.account_id,
            plan=plan,
            model=ask.model,
            prompt_tokens=terms.prompt_tokens,
            output_cap=decision.cap if terms.choices else None,
            choices=terms.choices,
            tokens=tokens,
            headers=wire_headers(decision.headers()),
            day=decision.today,
            day_since_us=decision.day_since_us,
            leaked_at_us=decision.leaked_at_us,
            request_leaked_at_us=decision.request_leaked_at_us,
            local_share=share,
        )

    def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Corrects the charge to what the request used, for one that reached an engine."""
        model, plan = reservation.model, reservation.plan.name
        exact = "true" if usage.exact else "false"
        labelled(TOKENS_SETTLED, model, plan, "prompt", exact).inc(usage.prompt_tokens)
        labelled(TOKENS_SETTLED, model, plan, "output", exact).inc(usage.output_tokens)
        self._sums.add(reservation.account_id, reservation.day, reservation.model, usage)
        self._correct(reservation, usage.prompt_tokens + usage.output_tokens, requests_back=0)

    def give_back(self, reservation: Reservation) -> None:
        """Takes the whole charge back, for a request that no engine has seen."""
        plan = reservation.plan.name
        labelled(TOKENS_RETURNED, reservation.model, plan).inc(reservation.tokens)
        self._correct(reservation, 0, requests_back=1)

    async def keep_books(self) -> None:
        """Adds what was used to the ledger once a second, until cancelled."""
        await self._sums.keep_adding()

    async def close(self) -> None:
        """Sends what is still to be settled or added, when the worker stops."""
        await self._day_use.close()
        await self._settlements.drain()
        await self._sums.drain()

    def _correct(self, reservation: Reservation, used: int, *, requests_back: int) -> None:
        reserved = reservation.tokens
        if reservation.local_share is not None:
            self._local.settle(
                reservation, reservation.local_share, used, requests_back=requests_back
            )
            if not used:
                return
            # Its minute was the worker's own; today's count on flow has not seen it.
            reserved, requests_back = used, 0
        settlement = Settlement(
            day=reservation.day,
            day_since_us=reservation.day_since_us,
            reserved=reserved,
            used=used,
            leaked_at_us=reservation.leaked_at_us,
            ended_at_us=round(self._wall_clock() * 1_000_000),
            requests_back=requests_back,
            request_leaked_at_us=reservation.request_leaked_at_us,
        )
        self._settlements.add(reservation.account_id, reservation.plan, settlement)

    async def _reserve_in_flow(self, caller: Caller, budget: Budget, terms: Terms) -> Decision:
        keys = (
            redis_keys.account_limits(caller.account_id),
            redis_keys.revoked_keys(caller.account_id),
        )
        seed = self._day_use.correction(caller.account_id)
        for _ in range(_TRIES):
            sent_us, until_us = round(self._wall_clock() * 1_000_000), 0
            if self._ahead_us is not None:
                until_us = sent_us + self._ahead_us + self._flow.deadline_us
            args = _arguments(caller, budget, terms, until_us, seed)
            answer = parse_answer(await self._flow.run("reserve", keys, args))
            if isinstance(answer, KeyRevoked):
                raise revoked_key()
            if isinstance(answer, DayUnknown):
                seed = await self._day_use.ask(caller.account_id, answer.today)
                continue
            self._ahead_us = answer.now_us - sent_us
            if isinstance(answer, Decided):
                break
        else:
            raise FlowUnavailable("reserve.lua does not take today's use")
        if answer.day_is_guess:
            self._day_use.put_right(caller.account_id, answer.today)
        return answer.decision(budget)


def _arguments(
    caller: Caller, budget: Budget, terms: Terms, waited_for_until_us: int, seed: DaySeed | None
) -> tuple[str, str, str]:
    numbers = (
        f"{budget.requests_per_minute} {budget.tokens_per_minute} {budget.tokens_per_day or 0} "
        f"{terms.prompt_tokens} {terms.choices} {terms.cap} {terms.cap_min} {waited_for_until_us}"
    )
    known = f"{seed.day} {seed.tokens} {seed.known:d}" if seed else ""
    return caller.key_id, numbers, known
