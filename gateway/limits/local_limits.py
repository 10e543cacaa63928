"""Limits in the process: a worker's share of them, while the flow Redis is gone. Pure.

The rules of lua/reserve.lua and lua/settle.lua on this worker's own counts. They begin empty, so
an account that had used up its limits gets a share of them once more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.limits.gcra import WINDOW_S, Bucket
from gateway.limits.rate_headers import Quota
from gateway.limits.reservation import Budget, Decision, Reservation, Terms, Verdict

_DAY_S = 86_400
# Accounts remembered, some 300 bytes each; beyond it idle ones are forgotten first.
_ACCOUNTS_MAX = 50_000


@dataclass(slots=True)
class _Account:
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    day: int = 0
    day_tokens: int = 0

    def advance(self, budget: Budget, now_us: int) -> None:
        self.requests.leak(budget.requests_per_minute, now_us)
        self.tokens.leak(budget.tokens_per_minute, now_us)
        if self.day != now_us // (_DAY_S * 1_000_000):
            self.day, self.day_tokens = now_us // (_DAY_S * 1_000_000), 0


class LocalLimits:
    """Accounts by id. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def reserve(self, account_id: str, budget: Budget, terms: Terms) -> Decision:
        """Takes the request and its tokens, or changes nothing."""
        account = self._advanced(account_id, budget)
        day_left = None
        if budget.tokens_per_day is not None:
            day_left = budget.tokens_per_day - account.day_tokens
        room = account.tokens.left(budget.tokens_per_minute)
        if day_left is not None:
            room = min(room, day_left)
        cap = terms.cap
        if terms.choices:
            cap = max(terms.cap_min, min(cap, (room - terms.prompt_tokens) // terms.choices))
        needed = terms.prompt_tokens + cap * terms.choices
        verdict, wait_ms = Verdict.RESERVED, 0
        if request_ms := account.requests.wait_ms(budget.requests_per_minute, 1):
            verdict, wait_ms = Verdict.NO_REQUEST, request_ms
        token_ms = account.tokens.wait_ms(budget.tokens_per_minute, needed)
        if token_ms > wait_ms:
            verdict, wait_ms = Verdict.NO_TOKENS, token_ms
        if day_left is not None and needed > day_left:
            verdict, wait_ms = Verdict.NO_TOKENS_TODAY, max(wait_ms, self._until_tomorrow_ms())
        if verdict is Verdict.RESERVED:
            account.requests.add(1)
            account.tokens.add(needed)
            account.day_tokens += needed
        return self._decision(account, budget, verdict, cap, wait_ms)

    def settle(
        self, reservation: Reservation, share: Budget, used_tokens: int, *, requests_back: int
    ) -> None:
        """Corrects a reservation of this worker's share to what was used."""
        account = self._advanced(reservation.account_id, share)
        unused = reservation.tokens - used_tokens
        if unused > 0:
            account.tokens.give_back(unused, share.tokens_per_minute, reservation.leaked_at_us)
        else:
            account.tokens.add(-unused)
        account.requests.give_back(
            requests_back, share.requests_per_minute, reservation.request_leaked_at_us
        )
        if account.day == reservation.day:
            account.day_tokens = max(0, account.day_tokens - unused)

    def _advanced(self, account_id: str, budget: Budget) -> _Account:
        account = self._accounts.get(account_id)
        if account is None:
            if len(self._accounts) >= _ACCOUNTS_MAX:
                self._forget_idle()
            account = self._accounts[account_id] = _Account()
        account.advance(budget, self._now_us())
        return account

    def _decision(
        self, account: _Account, budget: Budget, verdict: Verdict, cap: int, wait_ms: int
    ) -> Decision:
        requests, tokens = account.requests, account.tokens
        request_us = requests.empty_in_us(budget.requests_per_minute)
        token_us = tokens.empty_in_us(budget.tokens_per_minute)
        day = None
        if (limit := budget.tokens_per_day) is not None:
            day = Quota(limit, max(0, limit - account.day_tokens), self._until_tomorrow_ms())
        return Decision(
            verdict,
            cap,
            Quota(
                budget.requests_per_minute,
                max(0, requests.left(budget.requests_per_minute)),
                -(-request_us // 1000),
            ),
            Quota(
                budget.tokens_per_minute,
                max(0, tokens.left(budget.tokens_per_minute)),
                -(-token_us // 1000),
            ),
            day,
            today=account.day,
            day_since_us=0,
            leaked_at_us=tokens.at_us + token_us,
            request_leaked_at_us=requests.at_us + request_us,
            wait_ms=wait_ms,
        )

    def _forget_idle(self) -> None:
        """Those who have used nothing for a minute, today's count of them too."""
        minute_ago_us = self._now_us() - WINDOW_S * 1_000_000
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.tokens.at_us > minute_ago_us
        }
        if len(self._accounts) >= _ACCOUNTS_MAX:
            self._accounts.clear()  # memory stays bounded; the error favours the callers

    def _now_us(self) -> int:
        return round(self._clock() * 1_000_000)

    def _until_tomorrow_ms(self) -> int:
        return round((_DAY_S - self._clock() % _DAY_S) * 1000)
