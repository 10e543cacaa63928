"""The ledger as somebody uses it: with a clock, and a name for the audit."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger


class ActingLedger:
    """Every method that reads or writes raises LedgerUnavailable or LedgerIncompatible."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float], actor: str) -> None:
        """`clock` gives seconds since 1970; `actor` is who the audit names."""
        self._ledger = ledger
        self._clock = clock
        self.actor = actor

    @property
    def ledger(self) -> Ledger:
        """The ledger itself, for what names its own actor."""
        return self._ledger

    def acting_as(self, actor: str) -> "ActingLedger":
        return ActingLedger(self._ledger, clock=self._clock, actor=actor)

    def now_ms(self) -> int:
        return round(self._clock() * 1000)

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Runs one script of lua/ and returns what it returns."""
        return await self._ledger.run(script, keys, args)

    async def records(self, prefix: str, ids: Sequence[str]) -> list[dict[str, str]]:
        """Whole hashes in the order of `ids`, empty where there is none."""
        if not ids:
            return []
        rows = await self.run("read_records", [redis_keys.SCHEMA], [prefix, *ids])
        return [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]

    async def ping(self) -> None:
        await self._ledger.ping()


def moment(at_ms: int | str) -> datetime:
    """A time of the ledger, which counts in milliseconds since 1970."""
    return datetime.fromtimestamp(int(float(at_ms)) / 1000, UTC)


def moment_or_none(at_ms: int | str | None) -> datetime | None:
    return None if at_ms in (None, "") else moment(at_ms)


def day_of(at_ms: int) -> str:
    """The day in UTC as the statistics are kept: YYYY-MM-DD."""
    return moment(at_ms).date().isoformat()


def hour_of(at_ms: int) -> int:
    """Hours since 1970."""
    return at_ms // 3_600_000
