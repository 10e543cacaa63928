"""The usage history: requests and tokens by account, UTC day and model, kept in the ledger.

A month of an account is one hash, with a field for each day and model, so that a day costs some
45 bytes. Redis forgets a month by itself, 400 days after its last day.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from waitlist.errors import RequestMalformed
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment

DAYS_KEPT: Final = 400

# The account under which the use of all accounts is added up, by day and model.
EVERYBODY: Final = "everybody"

_EPOCH = date(1970, 1, 1)
# A batch is sent again for as long as its writer lives and the ledger is gone; a day is far beyond
# what a ledger is gone for.
_BATCH_REMEMBERED_S = 86_400

# Account id, UTC day (days since 1970), model, requests, prompt tokens, output tokens.
UsageRow = tuple[str, int, str, int, int, int]


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What was used."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def __add__(self, other: "UsageSum") -> "UsageSum":
        return UsageSum(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What one account used on one UTC day, by model."""

    day: date
    by_model: dict[str, UsageSum] = field(default_factory=dict)

    @property
    def total(self) -> UsageSum:
        return sum(self.by_model.values(), UsageSum())


class UsageHistory:
    """Every method raises LedgerUnavailable or LedgerIncompatible as the directory's do."""

    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def add(self, writer: str, number: int, rows: Sequence[UsageRow]) -> None:
        """Adds a writer's batch, once for each number, however often it is sent.

        A writer sends one batch at a time, with rising numbers; at most some hundred rows, which
        hold the ledger for a millisecond.
        """
        keys = [redis_keys.usage_batch(writer)]
        args: list[str | int] = [number, _BATCH_REMEMBERED_S]
        for account_id, day, model, requests, prompt_tokens, output_tokens in _with_totals(rows):
            at = _EPOCH + timedelta(days=day)
            keys.append(redis_keys.usage(account_id, _month(at)))
            args += (_field_start(at) + model, requests, prompt_tokens, output_tokens)
            args.append(_forgotten_at(at))
        await self._ledger.run("add_usage", keys, args)

    async def tokens_used(self, account_id: str, day: int) -> int:
        """Prompt and output tokens of the account on a UTC day (days since 1970)."""
        at = _EPOCH + timedelta(days=day)
        rows = await self._ledger.run(
            "read_usage", [redis_keys.usage(account_id, _month(at))], [_field_start(at)]
        )
        return sum(_sum(text).tokens for _, _, text in rows)

    async def tokens_between(self, account_id: str, first: int, last: int) -> int:
        """The same over UTC days, both included."""
        start, end = _EPOCH + timedelta(days=first), _EPOCH + timedelta(days=last)
        months = _months(start, end)
        keys = [redis_keys.usage(account_id, month) for month in months]
        rows = await self._ledger.run("read_usage", keys, [""])
        days = ((date.fromisoformat(f"{months[int(n) - 1]}-{f[:2]}"), text) for n, f, text in rows)
        return sum(_sum(text).tokens for day, text in days if start <= day <= end)

    async def usage_of(self, account_id: str, days: int) -> list[DayUsage]:
        """The last `days` UTC days up to today, latest first; days without use are left out.

        Raises:
            RequestMalformed: days is not from 1 to 400.
        """
        if not 1 <= days <= DAYS_KEPT:
            raise RequestMalformed(f"days must be from 1 to {DAYS_KEPT}.", param="days")
        today = moment(self._ledger.now_ms()).date()
        first = today - timedelta(days=days - 1)
        months = _months(first, today)
        rows = await self._ledger.run(
            "read_usage", [redis_keys.usage(account_id, month) for month in months], [""]
        )
        found: dict[date, DayUsage] = {}
        for number, name, text in rows:
            day_of_month, _, model = name.partition(":")
            day = date.fromisoformat(f"{months[int(number) - 1]}-{day_of_month}")
            if first <= day <= today:
                found.setdefault(day, DayUsage(day)).by_model[model] = _sum(text)
        return [found[day] for day in sorted(found, reverse=True)]


def _with_totals(rows: Sequence[UsageRow]) -> list[UsageRow]:
    totals: dict[tuple[int, str], list[int]] = {}
    for _, day, model, *counts in rows:
        total = totals.setdefault((day, model), [0, 0, 0])
        totals[day, model] = [a + b for a, b in zip(total, counts, strict=True)]
    everybody: list[UsageRow] = [
        (EVERYBODY, day, model, requests, prompt, output)
        for (day, model), (requests, prompt, output) in totals.items()
    ]
    return [*rows, *everybody]


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _months(first: date, last: date) -> list[str]:
    days: Iterable[date] = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return list(dict.fromkeys(map(_month, days)))


def _field_start(day: date) -> str:
    return f"{day:%d}:"


def _forgotten_at(day: date) -> int:
    """400 days after the last day of the month, whichever of its days came first."""
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return ((next_month - _EPOCH).days + DAYS_KEPT) * 86_400


def _sum(text: str) -> UsageSum:
    requests, prompt_tokens, output_tokens = text.split()
    return UsageSum(int(requests), int(prompt_tokens), int(output_tokens))
