"""What the latest people ask of the engines on their first days, measured.

    slot days = their tokens x (slot seconds of everybody / tokens of everybody) / 86,400

The ledger counts tokens by account and UTC day, and slots in all; a token holds a slot for as long
for one as for another, near enough. Both sums are over the last three UTC days.
"""

from typing import Final

from waitlist.holders.usage import EVERYBODY, UsageHistory
from waitlist.release.demand_forecast import HourOfUse
from waitlist.release.first_requests import LATEST_KEPT
from waitlist.release.release_sizing import NEWCOMER_DAYS, NEWCOMER_PERSON_DAYS, NewcomerUse
from waitlist.release.release_store import ReleaseStore
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger

NO_NEWCOMERS: Final = NewcomerUse(0, 0.0, 0.0)
_DAY_S: Final = 86_400
_HOUR_S: Final = 3_600


class NewcomerMeter:
    """Every method raises LedgerUnavailable or LedgerIncompatible."""

    def __init__(self, ledger: ActingLedger, usage: UsageHistory, store: ReleaseStore) -> None:
        self._ledger = ledger
        self._usage = usage
        self._store = store

    async def read(self) -> NewcomerUse:
        """Some 1,000 short calls where many are new: for each decision, not for each sample."""
        now_s = self._ledger.now_ms() / 1000
        token_slot_s = await self._slot_seconds_of_a_token(now_s)
        if token_slot_s is None:
            return NO_NEWCOMERS
        flat = await self._ledger.run(
            "read_latest_people", [redis_keys.LATEST_PEOPLE], [LATEST_KEPT]
        )
        people, person_days, tokens = 0, 0.0, 0
        for account_id, at_ms in zip(flat[::2], flat[1::2], strict=True):
            since_s = float(at_ms) / 1000
            first = int(since_s // _DAY_S)
            until_s = min(now_s, (first + NEWCOMER_DAYS) * _DAY_S)
            tokens += await self._usage.tokens_between(account_id, first, first + NEWCOMER_DAYS - 1)
            people += 1
            person_days += max(0.0, until_s - since_s) / _DAY_S
            if person_days >= NEWCOMER_PERSON_DAYS:
                break
        return NewcomerUse(people, person_days, tokens * token_slot_s / _DAY_S)

    async def _slot_seconds_of_a_token(self, now_s: float) -> float | None:
        """None while nothing was measured or used."""
        today = int(now_s // _DAY_S)
        first = today - NEWCOMER_DAYS + 1
        hours = (await self._store.read()).hours
        slot_s = sum(
            hour.demand_slots * _seconds_of(hour, now_s)
            for hour in hours
            if hour.hour * _HOUR_S >= first * _DAY_S
        )
        tokens = await self._usage.tokens_between(EVERYBODY, first, today)
        return slot_s / tokens if slot_s and tokens else None


def _seconds_of(hour: HourOfUse, now_s: float) -> float:
    """How much of the hour has passed."""
    return min(_HOUR_S, max(0.0, now_s - hour.hour * _HOUR_S))
