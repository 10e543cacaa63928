"""Decisions of automatic release as they are stored and shown, and what operators may set."""

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from waitlist.errors import RequestMalformed
from waitlist.release.activation_curve import StepCounts
from waitlist.release.demand_forecast import HourOfUse
from waitlist.release.release_sizing import (
    BusyHourSizing,
    NewcomerUse,
    ReleaseInputs,
    ReleaseSizing,
)

HOURS_A_DAY: Final = 24


@dataclass(frozen=True, slots=True)
class ReleaseControl:
    """What operators set beside the pause of all releasing.

    Hours are UTC; `until_hour` below `from_hour` means past midnight.
    """

    begins_at_s: float | None = None
    from_hour: int | None = None
    until_hour: int | None = None
    batch_max: int | None = None

    def refusal(self, at_s: float) -> str:
        """Why nobody may be let in at this time; empty where somebody may."""
        if self.begins_at_s is not None and at_s < self.begins_at_s:
            return f"begins at {datetime.fromtimestamp(self.begins_at_s, UTC):%Y-%m-%d %H:%M} UTC"
        if self.from_hour is None or self.until_hour is None:
            return ""
        hours_in = (datetime.fromtimestamp(at_s, UTC).hour - self.from_hour) % HOURS_A_DAY
        if hours_in < (self.until_hour - self.from_hour - 1) % HOURS_A_DAY + 1:
            return ""
        return f"only from {self.from_hour} to {self.until_hour} h UTC"

    def checked(self) -> "ReleaseControl":
        """Itself. Raises RequestMalformed where a value is out of its bounds."""
        if (self.from_hour is None) != (self.until_hour is None):
            raise RequestMalformed("from_hour and until_hour belong together.", param="from_hour")
        for name in ("from_hour", "until_hour"):
            hour = getattr(self, name)
            if hour is not None and not 0 <= hour < HOURS_A_DAY:
                raise RequestMalformed(f"{name} must be from 0 to 23.", param=name)
        if self.batch_max is not None and self.batch_max < 1:
            raise RequestMalformed("batch_max must be at least 1.", param="batch_max")
        return self


@dataclass(frozen=True, slots=True)
class ReleaseDecision:
    """One decision with everything that it was made from. `leader` is the fencing token."""

    decision_id: str
    leader: int
    at_s: float
    batch: int
    reason: str
    target_use: float
    inputs: ReleaseInputs
    sizing: ReleaseSizing

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ReleaseDecision":
        fields: dict[str, Any] = json.loads(text)
        inputs, sizing = fields.pop("inputs"), fields.pop("sizing")
        inputs |= {
            "hours": tuple(HourOfUse(**hour) for hour in inputs["hours"]),
            "newcomers": NewcomerUse(**inputs["newcomers"]),
            "invited": _counts(inputs["invited"]),
            "redeemed": _counts(inputs["redeemed"]),
        }
        sizing["busy_hours"] = tuple(BusyHourSizing(**hour) for hour in sizing["busy_hours"])
        return cls(**fields, inputs=ReleaseInputs(**inputs), sizing=ReleaseSizing(**sizing))


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision, and how many were let in by it: None until it was carried out."""

    decision: ReleaseDecision
    released: int | None


def describe(recorded: RecordedDecision) -> str:
    """The arithmetic in lines that a person can follow."""
    decision, sizing, inputs = recorded.decision, recorded.decision.sizing, recorded.decision.inputs
    at = datetime.fromtimestamp(decision.at_s, UTC)
    outcome = "not yet carried out" if recorded.released is None else f"let in {recorded.released}"
    lines = [
        f"{at:%Y-%m-%d %H:%M:%S} UTC  {decision.decision_id}  batch {decision.batch} "
        f"({decision.reason}){', ' + outcome if decision.batch else ''}",
        f"  safe      {inputs.capacity_slots:.1f} slots x {decision.target_use:.2f} = "
        f"{sizing.safe_slots:.1f} slots",
        f"  a person  {sizing.person_slots_mean:.4f} slots at the busiest hour "
        f"({sizing.peak_ratio:.2f} x the mean of {inputs.newcomers.people} people) x caution "
        f"{sizing.caution_factor:.2f} = {sizing.person_slots:.4f}",
        f"  an invite is redeemed by {sizing.redeem_share:.2f}, of those "
        f"{sizing.first_request_share:.2f} make a request",
        f"  people    {inputs.people_in} in, {inputs.invited.people_waiting} invited, "
        f"{inputs.redeemed.people_waiting} redeemed without a request, "
        f"{inputs.people_waiting} wait; each day asks {sizing.day_fading:.2f} of the last",
    ]
    lines += [
        f"  in {hour.ahead_h:3d} h  {sizing.safe_slots:.1f} - {hour.demand_in_slots:.1f} in - "
        f"{hour.demand_on_the_way_slots:.1f} on the way ({hour.people_on_the_way:.1f} people) = "
        f"{hour.headroom_slots:.1f}; / ({hour.invite_share:.2f} x {sizing.person_slots:.4f}) = "
        f"{hour.affordable} invites"
        for hour in sizing.busy_hours
    ]
    return "\n".join(lines)


def _counts(fields: dict[str, Any]) -> StepCounts:
    return StepCounts(**{name: tuple(values) for name, values in fields.items()})
