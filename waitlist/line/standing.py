"""What a person in line is told: state, place, estimate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from waitlist.line.estimate import Estimate, estimate_wait
from waitlist.line.overview import LineOverview, Overview
from waitlist.storage.acting_ledger import ActingLedger, hour_of
from waitlist.storage.records import Entry, Joined

PublicState = Literal["waiting", "invited", "redeemed", "expired", "left"]
_PUBLIC: Final[dict[str, PublicState]] = {
    "pending": "waiting",
    "waiting": "waiting",
    "invited": "invited",
    "redeemed": "redeemed",
    "expired": "expired",
    "left": "left",
}
# States after which nothing more happens to an entry.
FINAL_STATES: Final = frozenset({"redeemed", "expired", "left"})
# Releases change estimates by the hour; a person looks every few seconds.
_OVERVIEW_LIFE_S = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """`place` counts from 1 and is None outside the line; no estimate where it is not known."""

    state: PublicState
    confirmed: bool
    place: int | None
    ahead: int | None
    estimate: Estimate | None
    releasing_paused: bool
    referral_code: str
    referred: int
    invite_expires_at: datetime | None


def public_state(state: str) -> PublicState:
    """An entry's state as people are told it: whether it is confirmed stands beside it."""
    return _PUBLIC[state]


class Standings:
    """Makes standings; reads what they have in common every few seconds."""

    def __init__(
        self, ledger: ActingLedger, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._overview = Overview(ledger)
        self._monotonic = monotonic
        self._line: LineOverview | None = None
        self._read_at = 0.0

    async def of(self, entry: Entry) -> Standing:
        """Raises LedgerUnavailable."""
        line = await self._current_line()
        paused = "releasing" in line.paused
        estimate = None
        if entry.ahead is not None and not paused:
            estimate = self._estimate(entry.ahead, line)
        return Standing(
            state=public_state(entry.state),
            confirmed=entry.confirmed,
            place=None if entry.ahead is None else entry.ahead + 1,
            ahead=entry.ahead,
            estimate=estimate,
            releasing_paused=paused,
            referral_code=entry.entry_id,
            referred=entry.referred,
            invite_expires_at=entry.invite_expires_at if entry.state == "invited" else None,
        )

    async def of_new(self, joined: Joined) -> Standing:
        """Of a place that was just taken. Raises LedgerUnavailable."""
        line = await self._current_line()
        paused = "releasing" in line.paused
        return Standing(
            state="waiting",
            confirmed=joined.confirmed,
            place=joined.ahead + 1,
            ahead=joined.ahead,
            estimate=None if paused else self._estimate(joined.ahead, line),
            releasing_paused=paused,
            referral_code=joined.entry_id,
            referred=0,
            invite_expires_at=None,
        )

    def _estimate(self, ahead: int, line: LineOverview) -> Estimate | None:
        return estimate_wait(ahead, line.released_by_hour, hour_of(self._ledger.now_ms()))

    async def _current_line(self) -> LineOverview:
        now = self._monotonic()
        if self._line is None or now - self._read_at >= _OVERVIEW_LIFE_S:
            self._line = await self._overview.line()
            self._read_at = now
        return self._line
