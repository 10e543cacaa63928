"""What a request asks of its account's limits, and what it is given. Pure.

Named tuples: a request makes seven of these, and a frozen dataclass takes 2 µs where these take
0.4.
"""

from enum import IntEnum
from typing import NamedTuple

from gateway.errors import RETRY_AFTER_S_MAX, BudgetExhausted, RateLimited, TokensLimited
from gateway.limits.plans import Plan
from gateway.limits.rate_headers import Quota, rate_headers

# Where the caller names no cap and little is left, an answer is not cut below two or three
# sentences; the free plan refills so many in 0.1 s.
_INJECTED_CAP_MIN = 64


class TokenAsk(NamedTuple):
    """What a request may use at most.

    `choices` counts all answers (prompts times n); 0 where nothing is generated (embeddings).
    `output_cap` is the caller's own, for each choice. `context_tokens_filled` is what the
    longest prompt fills of the context, where that is another number than `prompt_tokens`.
    `output_tokens_default` is the model's own, where it has one: it holds beside the plan's.
    """

    model: str
    prompt_tokens: int
    choices: int
    output_cap: int | None
    context_tokens_max: int | None = None
    context_tokens_filled: int | None = None
    output_tokens_default: int | None = None


class Budget(NamedTuple):
    """The limits that hold for one decision: a plan's, or a worker's share of them."""

    requests_per_minute: int
    tokens_per_minute: int
    tokens_per_day: int | None

    @classmethod
    def of(cls, plan: Plan) -> "Budget":
        return cls(plan.requests_per_minute, plan.tokens_per_minute, plan.tokens_per_day)

    def share(self, workers: int) -> "Budget":
        day = self.tokens_per_day
        return Budget(
            max(1, self.requests_per_minute // workers),
            max(1, self.tokens_per_minute // workers),
            None if day is None else max(1, day // workers),
        )


class Terms(NamedTuple):
    """What must fit: the prompt, and for each choice from `cap_min` to `cap` output tokens."""

    prompt_tokens: int
    choices: int
    cap: int
    cap_min: int

    @classmethod
    def of(cls, ask: TokenAsk, plan: Plan, budget: Budget) -> "Terms":
        """A cap that the caller named holds as it is, within plan and context."""
        prompt, choices = ask.prompt_tokens, ask.choices
        if choices == 0:
            return cls(prompt, 0, 0, 0)
        named = ask.output_cap
        default = plan.output_tokens_default
        if ask.output_tokens_default is not None:
            default = min(default, ask.output_tokens_default)
        cap = min(default if named is None else named, plan.output_tokens_max)
        if ask.context_tokens_max:
            filled = prompt if ask.context_tokens_filled is None else ask.context_tokens_filled
            # A prompt that fills the context is the engine's to refuse: it knows the true count.
            cap = min(cap, max(1, ask.context_tokens_max - filled))
        if named is not None:
            return cls(prompt, choices, cap, cap)
        whole = budget.tokens_per_minute
        if budget.tokens_per_day is not None:
            whole = min(whole, budget.tokens_per_day)
        cap_min = max(1, min(cap, _INJECTED_CAP_MIN, (whole - prompt) // choices))
        return cls(prompt, choices, cap, cap_min)

    @property
    def tokens_min(self) -> int:
        return self.prompt_tokens + self.choices * self.cap_min


class Verdict(IntEnum):
    """As lua/reserve.lua returns it."""

    RESERVED = 1
    NO_REQUEST = 2
    NO_TOKENS = 3
    NO_TOKENS_TODAY = 4


class Decision(NamedTuple):
    """Whether the terms fit the budget, and the account's state after that."""

    verdict: Verdict
    cap: int
    requests: Quota
    tokens: Quota
    day: Quota | None
    # The charge: on which day, since when that day has been counted, when its tokens, and its
    # request, have leaked out.
    today: int
    day_since_us: int
    leaked_at_us: int
    request_leaked_at_us: int
    wait_ms: int

    def headers(self) -> dict[str, str]:
        return rate_headers(self.requests, self.tokens, self.day)


class Reservation(NamedTuple):
    """Tokens that are charged to an account until they are settled.

    `output_cap` is what the engine must be told for each choice; None where nothing is generated.
    `headers` go with the answer.
    """

    account_id: str
    plan: Plan
    model: str
    prompt_tokens: int
    output_cap: int | None
    choices: int
    tokens: int
    headers: tuple[tuple[bytes, bytes], ...]
    day: int
    day_since_us: int
    leaked_at_us: int
    request_leaked_at_us: int
    # Set where the flow Redis was gone: the worker's share that the tokens were taken from.
    local_share: Budget | None


def refusal(decision: Decision, plan: Plan, budget: Budget, terms: Terms) -> RateLimited:
    """The error for a decision that is none to go on.

    `budget` may be a worker's share: what fits the plan is worth a retry, for the whole of it will
    be back with the flow Redis.
    """
    whole = Budget.of(plan)
    kind, message, fits = _reason(decision, plan, whole, terms)
    helps = fits and (decision.wait_ms <= RETRY_AFTER_S_MAX * 1000 or budget != whole)
    wait_ms = min(decision.wait_ms, RETRY_AFTER_S_MAX * 1000) if fits else RETRY_AFTER_S_MAX * 1000
    wait_s = max(1, -(-wait_ms // 1000))
    if helps:
        message += f" Try again in {wait_s} s."
    return kind(
        message,
        headers={
            **decision.headers(),
            "retry-after": str(wait_s),
            "retry-after-ms": str(wait_ms),
            "x-should-retry": "true" if helps else "false",
        },
    )


def _reason(
    decision: Decision, plan: Plan, budget: Budget, terms: Terms
) -> tuple[type[RateLimited], str, bool]:
    """Error, text, and whether the request fits the budget at all."""
    per_day = budget.tokens_per_day
    needed = terms.tokens_min
    asked = f"This request needs {needed} tokens (prompt {terms.prompt_tokens}, answer the rest)"
    smaller = "Send a shorter prompt or ask for a shorter answer."
    if decision.verdict is Verdict.NO_REQUEST:
        limit = budget.requests_per_minute
        return RateLimited, f"Rate limit of {limit} requests per minute reached.", True
    if per_day is not None and needed > per_day:
        return BudgetExhausted, f"{asked}; plan '{plan.name}' has {per_day} a day. {smaller}", False
    if needed > budget.tokens_per_minute:
        limit = budget.tokens_per_minute
        return TokensLimited, f"{asked}; plan '{plan.name}' has {limit} a minute. {smaller}", False
    if decision.verdict is Verdict.NO_TOKENS_TODAY:
        left = decision.day.remaining if decision.day else 0
        return (
            BudgetExhausted,
            f"{asked}; {left} of {per_day} are left today. The day ends at 00:00 UTC.",
            True,
        )
    left, limit = decision.tokens.remaining, budget.tokens_per_minute
    return TokensLimited, f"{asked}; {left} of {limit} per minute are left now.", True
