"""Automatic release in the ledger: who leads, what was decided, what is not carried out yet.

Whoever holds the lease has a fencing token, one higher than the leader before. Every write of a
leader checks it in the same script, so one that was stopped for a while and does not know that
another took over writes nothing.
"""

import dataclasses
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from waitlist.release.demand_forecast import HOURS_KEPT, HourOfUse
from waitlist.release.release_record import RecordedDecision, ReleaseControl, ReleaseDecision
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger

DECISIONS_SHOWN_MAX: Final = 200
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide, until it ends or is given back."""

    token: int
    holder: str

    def __str__(self) -> str:
        return f"{self.token}:{self.holder}"


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """What a leader goes on from."""

    control: ReleaseControl
    open_decision: ReleaseDecision | None
    hours: tuple[HourOfUse, ...]
    learned: str


class ReleaseStore:
    """Every method raises LedgerUnavailable and LedgerIncompatible, as the ledger does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def hold_lease(self, holder: str, life_s: float) -> Lease | None:
        """Takes the lease or renews it; None while somebody else holds it."""
        token = await self._ledger.run(
            "hold_release_lease",
            [redis_keys.RELEASE_LEASE, redis_keys.RELEASE_LAST_TOKEN],
            [holder, round(life_s * 1000)],
        )
        return Lease(token, holder) if token else None

    async def drop_lease(self, lease: Lease) -> None:
        """Gives the lease back, so that another need not wait for its end."""
        await self._ledger.run("drop_release_lease", [redis_keys.RELEASE_LEASE], [str(lease)])

    async def read(self) -> ReleaseState:
        """All that is known, in one step."""
        control, open_decision, hours, learned = await self._ledger.run(
            "read_release_state",
            [
                redis_keys.RELEASE_CONTROL,
                redis_keys.RELEASE_OPEN_DECISION,
                redis_keys.RELEASE_HOURS,
                redis_keys.RELEASE_LEARNED,
            ],
            [],
        )
        return ReleaseState(
            control=_control(control),
            open_decision=ReleaseDecision.from_json(open_decision) if open_decision else None,
            hours=_hours(hours),
            learned=learned,
        )

    async def note_use(
        self, lease: Lease, at_s: float, demand_slots: float, people_in: int
    ) -> bool:
        """Adds a sample to its hour. False: the lease is somebody else's."""
        noted = await self._ledger.run(
            "note_release_use",
            [redis_keys.RELEASE_LEASE, redis_keys.RELEASE_HOURS],
            [
                *(str(lease), secrets.token_hex(6), int(at_s // _HOUR_S), f"{demand_slots:.6f}"),
                *(people_in, HOURS_KEPT),
            ],
        )
        return bool(noted)

    async def note_decision(self, lease: Lease, decision: ReleaseDecision, learned: str) -> bool:
        """Writes a decision down before anybody is let in.

        False: the lease is somebody else's, or a decision is open already.
        """
        outcome, *_ = await self._ledger.run(
            "open_release_decision",
            [
                redis_keys.RELEASE_LEASE,
                redis_keys.RELEASE_OPEN_DECISION,
                redis_keys.RELEASE_DECISIONS,
                redis_keys.RELEASE_LEARNED,
            ],
            [str(lease), decision.decision_id, decision.to_json(), decision.batch, learned],
        )
        return bool(outcome == "noted")

    async def close_decision(self, decision: ReleaseDecision, released: int, at_s: float) -> None:
        """Notes that the open decision was carried out; nothing where that was noted before."""
        await self._ledger.run(
            "close_release_decision",
            [redis_keys.RELEASE_OPEN_DECISION, redis_keys.RELEASE_DECISIONS],
            [decision.to_json(), decision.decision_id, released, round(at_s * 1000)],
        )

    async def set_control(self, control: ReleaseControl, *, at_s: float, actor: str) -> None:
        """Sets all that operators may set. Raises RequestMalformed."""
        fields = dataclasses.asdict(control.checked())
        pairs = [
            part
            for name, value in fields.items()
            for part in (name, "" if value is None or value is False else json.dumps(value))
        ]
        await self._ledger.run(
            "set_release_control",
            [redis_keys.RELEASE_CONTROL, redis_keys.AUDIT],
            [round(at_s * 1000), actor, *pairs],
        )

    async def newest_decisions(self, count: int) -> list[RecordedDecision]:
        """The newest decisions, newest first, at most DECISIONS_SHOWN_MAX."""
        released: dict[str, int] = {}
        found: list[RecordedDecision] = []
        before = "+"
        while len(found) < min(count, DECISIONS_SHOWN_MAX):
            rows = await self._ledger.run(
                "read_release_decisions",
                [redis_keys.RELEASE_DECISIONS],
                [before, DECISIONS_SHOWN_MAX],
            )
            if not rows:
                break
            for _, flat in rows:
                entry = dict(zip(flat[::2], flat[1::2], strict=True))
                if entry["kind"] == "outcome":
                    released[entry["id"]] = int(entry["released"])
                else:
                    decision = ReleaseDecision.from_json(entry["decision"])
                    found.append(RecordedDecision(decision, released.get(entry["id"])))
            before = rows[-1][0]
        return found[:count]


def _control(flat: Sequence[str]) -> ReleaseControl:
    known = {field.name for field in dataclasses.fields(ReleaseControl)}
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return ReleaseControl(**{name: json.loads(value) for name, value in pairs if name in known})


def _hours(flat: Sequence[str]) -> tuple[HourOfUse, ...]:
    hours = []
    for hour, text in zip(flat[::2], flat[1::2], strict=True):
        demand_sum, samples, people_in, _ = text.split()
        hours.append(HourOfUse(int(hour), float(demand_sum) / int(samples), int(people_in)))
    hours.sort(key=lambda hour: hour.hour)
    return tuple(hour for hour in hours if hour.hour > hours[-1].hour - HOURS_KEPT)
