"""What flow/lua/reserve.lua answers, by name. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.limits.rate_headers import Quota
from gateway.limits.reservation import Budget, Decision, Verdict

_REVOKED = -1
_DAY_UNKNOWN = -2
_TOO_LATE = -3


class KeyRevoked(NamedTuple):
    """The caller's key was revoked; nothing is charged."""


class DayUnknown(NamedTuple):
    """Today's use must be asked of the ledger first. `today`: days since 1970."""

    today: int


class TooLate(NamedTuple):
    """Nobody waits for the answer any more. `now_us`: Redis's clock."""

    now_us: int


class Decided(NamedTuple):
    """A decision and the account's state after it, in the order in which the script returns them.

    Times in µs since 1970 by Redis's clock.
    """

    verdict: int
    cap: int
    requests_left: int
    requests_reset_ms: int
    tokens_left: int
    tokens_reset_ms: int
    day_left: int
    day_reset_ms: int
    today: int
    day_since_us: int
    leaked_at_us: int
    wait_ms: int
    request_leaked_at_us: int
    now_us: int
    # 1 where today's count is not the ledger's.
    day_is_guess: int

    def decision(self, budget: Budget) -> Decision:
        limit = budget.tokens_per_day
        return Decision(
            Verdict(self.verdict),
            self.cap,
            Quota(budget.requests_per_minute, self.requests_left, self.requests_reset_ms),
            Quota(budget.tokens_per_minute, self.tokens_left, self.tokens_reset_ms),
            None if limit is None else Quota(limit, self.day_left, self.day_reset_ms),
            today=self.today,
            day_since_us=self.day_since_us,
            leaked_at_us=self.leaked_at_us,
            request_leaked_at_us=self.request_leaked_at_us,
            wait_ms=self.wait_ms,
        )


def parse_answer(answer: Sequence[Any]) -> Decided | DayUnknown | TooLate | KeyRevoked:
    """The script's answer."""
    what = answer[0]
    if what == _REVOKED:
        return KeyRevoked()
    if what == _DAY_UNKNOWN:
        return DayUnknown(answer[1])
    if what == _TOO_LATE:
        return TooLate(answer[1])
    return Decided._make(answer)
