"""How many replicas a model is to have, from what its line asks for. Pure.

Up, when the line would still be there once another replica had started, by as many as then work it
off in `wait_s_target`; or when somebody has waited longer than that although all replicas run.
Down by one, when what runs and waits has fitted into fewer replicas for long enough. An operator's
pin goes before both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.flow.demand import Demand

# Of the slots that would be left, so many may be in use for a replica to go.
_USE_MAX_WITH_ONE_LESS = 0.7


@dataclass(frozen=True, slots=True)
class ScalingTerms:
    """What the operator sets."""

    replicas_min: int
    replicas_max: int
    wait_s_target: float
    down_after_s: float
    to_zero_after_s: float


@dataclass(frozen=True, slots=True)
class ScalingView:
    """One look at a model: its line and its replicas.

    `demand` is None where nobody says (the flow Redis or all gateways are gone). `slots` and
    `tokens_per_s` are of one replica at work, None until one has worked; `start_s` is what the
    last starts took.
    """

    demand: Demand | None
    pin: int | None
    running: int
    target: int
    slots: int | None
    tokens_per_s: float | None
    start_s: float


class ScalingRule:
    """Asked once a second or so; remembers since when fewer replicas would do."""

    def __init__(self, terms: ScalingTerms) -> None:
        self._terms = terms
        self._too_many_since: float | None = None

    def decide(self, view: ScalingView, now: float) -> int:
        """Replicas from now on. `now` in seconds of a monotonic clock."""
        if view.pin is not None:
            self._too_many_since = None
            return min(view.pin, self._terms.replicas_max)
        least, most = self._terms.replicas_min, self._terms.replicas_max
        if view.demand is None:  # nobody knows, which is not "nobody asks"
            self._too_many_since = None
            return max(least, min(view.target, most))
        more = view.target + self._missing(view, view.demand)
        if more > view.target:
            self._too_many_since = None
            return max(least, min(more, most))
        return max(least, min(self._without_idle_ones(view, view.demand, now), most))

    def _missing(self, view: ScalingView, demand: Demand) -> int:
        if not demand.waiting:
            return 0
        if not view.target:
            return 1
        is_starting = view.running < view.target
        if not view.tokens_per_s:
            # Nothing has been full yet, so nobody knows how fast it is. One that starts must show
            # that first; a line of as many as run will outlast a start.
            waits_long = demand.waiting >= (view.slots or 1) * view.target
            return int(waits_long and not is_starting)
        drained = view.tokens_per_s * view.target * view.start_s
        left = demand.tokens_owed - drained
        if left > 0:
            return math.ceil(left / (view.tokens_per_s * self._terms.wait_s_target))
        return int(demand.oldest_wait_s > self._terms.wait_s_target and not is_starting)

    def _without_idle_ones(self, view: ScalingView, demand: Demand, now: float) -> int:
        wanted = demand.slots_used + demand.waiting
        fewer = view.target - 1
        # One that has just been started is not idle yet.
        is_starting = view.running < view.target
        room = (view.slots or 0) * fewer * _USE_MAX_WITH_ONE_LESS
        if fewer < 0 or is_starting or wanted > room:
            self._too_many_since = None
            return view.target
        if self._too_many_since is None:
            self._too_many_since = now
        after_s = self._terms.down_after_s if fewer else self._terms.to_zero_after_s
        if now - self._too_many_since < after_s:
            return view.target
        self._too_many_since = None
        return fewer
