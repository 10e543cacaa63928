"""What the audit tells of invites, accounts and first requests: the counts of both steps.

The audit is read on from where the last reading ended; that place and all that was counted are
stored with each decision, so a new leader begins with what the last one knew.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Final

from waitlist.release.activation_curve import (
    AGES,
    NO_COUNTS,
    Cohort,
    StepCounts,
    age_of,
    is_settled,
    tally,
)
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger

_HOUR_MS: Final = 3_600_000
# A thousand entries hold the ledger for about 3 ms.
_ENTRIES_PER_PAGE: Final = 1000


@dataclass
class _Step:
    """A step's cohorts, one for each hour in which people came to stand before it."""

    closed_s: float
    people: dict[int, int] = field(default_factory=dict)
    moved: dict[int, list[int]] = field(default_factory=dict)
    settled: StepCounts = NO_COUNTS

    def arrive(self, at_ms: int, people: int) -> None:
        hour = at_ms // _HOUR_MS
        self.people[hour] = self.people.get(hour, 0) + people

    def move(self, since_ms: int, at_ms: int) -> None:
        hour = since_ms // _HOUR_MS
        if hour in self.people:  # else it is settled, and this is somebody past the end
            moved = self.moved.setdefault(hour, [0] * AGES)
            moved[age_of((at_ms - since_ms) / 1000)] += 1

    def counts(self, now_ms: int) -> StepCounts:
        """The life table as of now; cohorts that are settled are folded in."""
        cohorts = {
            hour: Cohort(
                max(0.0, (now_ms - hour * _HOUR_MS) / 1000),
                people,
                tuple(self.moved.get(hour, [0] * AGES)),
                self.closed_s,
            )
            for hour, people in self.people.items()
        }
        over = [hour for hour, cohort in cohorts.items() if is_settled(cohort)]
        self.settled = tally((cohorts.pop(hour) for hour in over), self.settled)
        for hour in over:
            del self.people[hour]
            self.moved.pop(hour, None)
        return tally(cohorts.values(), self.settled)


class ActivationLearner:
    """Counts of both steps, and of the people who are in."""

    def __init__(self, ledger: Ledger, *, invite_life_s: float) -> None:
        self._ledger = ledger
        self._invite_life_s = invite_life_s
        self._forget()

    def _forget(self) -> None:
        self._last_id = "0"
        self.people_in = 0
        self._invited = _Step(self._invite_life_s)
        self._redeemed = _Step(math.inf)

    async def read_on(self) -> None:
        """Reads what the audit says since the last time.

        Raises:
            LedgerUnavailable, LedgerIncompatible: what was read until then stays read.
        """
        while True:
            last_id, rows = await self._ledger.run(
                "read_activations",
                [redis_keys.AUDIT],
                [
                    *(self._last_id, _ENTRIES_PER_PAGE),
                    *(redis_keys.INVITE_PREFIX, redis_keys.ACCOUNT_PREFIX),
                ],
            )
            if not last_id:
                return
            for kind, at_ms, value in rows:
                self._take(kind, int(at_ms), value)
            self._last_id = last_id

    def _take(self, kind: str, at_ms: int, value: str) -> None:
        if kind == "invited":
            self._invited.arrive(at_ms, int(value))
        elif kind == "redeemed":
            self._redeemed.arrive(at_ms, 1)
            if value:
                self._invited.move(int(value), at_ms)
        else:
            self._redeemed.move(int(value), at_ms)
            self.people_in += 1

    def counts(self, now_s: float) -> tuple[StepCounts, StepCounts]:
        """The steps from invite to account and from account to first request."""
        now_ms = round(now_s * 1000)
        return self._invited.counts(now_ms), self._redeemed.counts(now_ms)

    def to_json(self) -> str:
        """All of it, for the next leader."""
        steps = [_step_fields(step) for step in (self._invited, self._redeemed)]
        return json.dumps({"last_id": self._last_id, "people_in": self.people_in, "steps": steps})

    def restore(self, text: str) -> None:
        """Goes on from what `to_json` gave; from nothing where it is empty."""
        self._forget()
        if not text:
            return
        stored = json.loads(text)
        self._last_id = stored["last_id"]
        self.people_in = stored["people_in"]
        for step, fields in zip((self._invited, self._redeemed), stored["steps"], strict=True):
            step.people = {int(hour): people for hour, people in fields["people"].items()}
            step.moved = {int(hour): moved for hour, moved in fields["moved"].items()}
            at_risk, moved, waiting = fields["settled"]
            step.settled = StepCounts(tuple(at_risk), tuple(moved), tuple(waiting))


def _step_fields(step: _Step) -> dict[str, Any]:
    settled = step.settled
    return {
        "people": step.people,
        "moved": step.moved,
        "settled": [settled.at_risk, settled.moved, settled.waiting],
    }
