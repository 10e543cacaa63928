import pytest

from gateway.errors import BudgetExhausted, RateLimited, TokensLimited
from gateway.limits.rate_headers import Quota
from gateway.limits.reservation import Budget, Decision, Terms, TokenAsk, Verdict, refusal
from tests.plans_file import plan

PLAN = plan(
    requests_per_minute=60,
    tokens_per_minute=40_000,
    tokens_per_day=500_000,
    output_tokens_max=4_096,
    output_tokens_default=1_024,
)


@pytest.mark.parametrize(
    ("prompt", "choices", "named", "context", "cap", "cap_min"),
    [
        (100, 1, None, None, 1_024, 64),  # the plan's default
        (100, 1, None, 8_192, 1_024, 64),
        (8_000, 1, None, 8_192, 192, 64),  # context - prompt
        (8_180, 1, None, 8_192, 12, 12),
        (9_000, 1, None, 8_192, 1, 1),  # the engine refuses it
        (100, 1, 500, 8_192, 500, 500),  # the caller's own: all of it or a refusal
        (100, 4, 500, None, 500, 500),
        (100, 1, 9_999, None, 4_096, 4_096),  # cut to the plan's largest
        (8_000, 1, 500, 8_192, 192, 192),  # cut to the context
        (39_990, 1, None, None, 1_024, 10),  # what the whole minute leaves
        (39_990, 4, None, None, 1_024, 2),
        (50_000, 1, None, None, 1_024, 1),
        (100, 0, None, 8_192, 0, 0),  # embeddings
    ],
)
def test_caps(
    prompt: int, choices: int, named: int | None, context: int | None, cap: int, cap_min: int
) -> None:
    ask = TokenAsk("m", prompt, choices, named, context)
    terms = Terms.of(ask, PLAN, Budget.of(PLAN))
    assert (terms.cap, terms.cap_min) == (cap, cap_min)


@pytest.mark.parametrize(
    ("of_the_model", "named", "cap"),
    [(256, None, 256), (2_048, None, 1_024), (None, None, 1_024), (256, 500, 500)],
)
def test_the_models_own_default_holds_beside_the_plans(
    of_the_model: int | None, named: int | None, cap: int
) -> None:
    ask = TokenAsk("m", 100, 1, named, 8_192, output_tokens_default=of_the_model)
    assert Terms.of(ask, PLAN, Budget.of(PLAN)).cap == cap


def test_a_context_is_filled_by_one_prompt_of_several() -> None:
    ask = TokenAsk("m", 8_000, 1, None, 8_192, context_tokens_filled=2_700)
    assert Terms.of(ask, PLAN, Budget.of(PLAN)).cap == 1_024


def test_a_share_is_never_nothing() -> None:
    assert Budget(3, 5, 7).share(4) == Budget(1, 1, 1)
    assert Budget(60, 40_000, None).share(4) == Budget(15, 10_000, None)


def decision(verdict: Verdict, wait_ms: int) -> Decision:
    quota = Quota(100, 0, wait_ms)
    return Decision(verdict, 1, quota, quota, quota, 20_000, 0, 0, 0, wait_ms)


@pytest.mark.parametrize(
    ("verdict", "wait_ms", "prompt", "error", "retry_after", "retry"),
    [
        (Verdict.NO_REQUEST, 999, 1, RateLimited, "1", "true"),
        (Verdict.NO_TOKENS, 1_001, 1, TokensLimited, "2", "true"),
        (Verdict.NO_TOKENS, 500_000, 1, TokensLimited, "120", "false"),
        (Verdict.NO_TOKENS, 70_000, 40_001, TokensLimited, "120", "false"),
        (Verdict.NO_TOKENS_TODAY, 119_000, 1, BudgetExhausted, "119", "true"),
        (Verdict.NO_TOKENS_TODAY, 3_600_000, 1, BudgetExhausted, "120", "false"),
        (Verdict.NO_TOKENS_TODAY, 60_000, 500_001, BudgetExhausted, "120", "false"),
    ],
)
def test_refusals(
    verdict: Verdict, wait_ms: int, prompt: int, error: type, retry_after: str, retry: str
) -> None:
    budget = Budget.of(PLAN)
    terms = Terms.of(TokenAsk("m", prompt, 1, None), PLAN, budget)
    told = refusal(decision(verdict, wait_ms), PLAN, budget, terms)
    assert type(told) is error
    assert told.headers["retry-after"] == retry_after
    assert told.headers["x-should-retry"] == retry
    assert int(told.headers["retry-after-ms"]) <= int(retry_after) * 1000
    assert ("Try again" in told.message) == (retry == "true")
    assert told.headers["x-ratelimit-limit-tokens"] == "100"


def test_what_is_larger_than_a_workers_share_alone_is_worth_a_retry() -> None:
    share = Budget.of(PLAN).share(8)
    terms = Terms.of(TokenAsk("m", 30_000, 1, 100), PLAN, share)
    told = refusal(decision(Verdict.NO_TOKENS, 300_000), PLAN, share, terms)
    assert (told.headers["x-should-retry"], told.headers["retry-after"]) == ("true", "120")
