"""How many replicas a model is to have, from what its line asks for. Pure.

Up, to as many as work the line off in time, once no line would be left by the time one more had
started; or by one when somebody has waited for too long although all replicas run. Never beyond
what would give everybody in line a slot at once. Down by one, when what runs and waits has fitted
into fewer replicas for long enough. An operator's pin goes before both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.flow.demand import Demand

# Of the slots that would be left, so many may be in use for a replica to go.
_USE_MAX_WITH_ONE_LESS = 0.7
# A replica that is ordered is to work on the line for at least this share of the wait that is
# aimed at: for a line that is gone seconds after its start one would order a crowd of them.
_WORK_SHARE_MIN = 0.5


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

    @property
    def is_starting(self) -> bool:
        """Whether replicas have been ordered that do not run yet."""
        return self.running < self.target


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
        wanted = self._by_the_line(view, now)
        return max(self._terms.replicas_min, min(wanted, self._terms.replicas_max))

    def _by_the_line(self, view: ScalingView, now: float) -> int:
        if view.demand is None:  # nobody knows, which is not "nobody asks"
            self._too_many_since = None
            return view.target
        demanded = replicas_demanded(view, view.demand, self._terms.wait_s_target)
        fewer = view.target - 1
        # One that has just been started is not idle yet.
        if demanded > fewer or view.is_starting or not _fits(view, view.demand, fewer):
            self._too_many_since = None
            return max(view.target, demanded)
        if self._too_many_since is None:
            self._too_many_since = now
        after_s = self._terms.down_after_s if fewer else self._terms.to_zero_after_s
        if now - self._too_many_since < after_s:
            return view.target
        self._too_many_since = None
        return fewer


def replicas_demanded(view: ScalingView, demand: Demand, wait_s_target: float) -> int:
    """How many the line asks for; 0 where those that run serve it in time.

    What it asks for follows from the work and from those that run. It does not grow by asking
    again, and falls as replicas that were ordered come to run.
    """
    if not demand.waiting:
        return 0
    wanted = max(
        _for_the_work(view, demand, wait_s_target),
        _for_the_longest_wait(view, demand, wait_s_target),
    )
    # With so many everybody who waits would have a slot at once.
    enough = math.ceil((demand.slots_used + demand.waiting) / (view.slots or 1))
    return max(0 if view.target else 1, min(wanted, enough))


def _for_the_work(view: ScalingView, demand: Demand, wait_s_target: float) -> int:
    """As many as do all that the line is owed within `wait_s_target` from now.

    One that is ordered now works for what is left of that after its start, or where starts take
    too long, for a while beyond.
    """
    if not view.tokens_per_s:
        return 0
    works_s = max(wait_s_target - view.start_s, _WORK_SHARE_MIN * wait_s_target)
    left_s = demand.tokens_owed / view.tokens_per_s - view.running * (view.start_s + works_s)
    return view.running + math.ceil(left_s / works_s) if left_s > 0 else 0


def _for_the_longest_wait(view: ScalingView, demand: Demand, wait_s_target: float) -> int:
    """One more at a time, each of which must show first what it can do."""
    if view.is_starting:
        return 0
    if view.tokens_per_s:
        is_too_long = demand.oldest_wait_s > wait_s_target
    else:
        # Nothing has been full yet, so nobody knows how fast it is; a line of as many as run will
        # outlast a start.
        is_too_long = demand.waiting >= (view.slots or 1) * view.target
    return view.target + 1 if is_too_long else 0


def _fits(view: ScalingView, demand: Demand, replicas: int) -> bool:
    """Whether so many replicas would do for all that runs and waits."""
    if replicas < 0:
        return False
    wanted = demand.slots_used + demand.waiting
    return wanted <= (view.slots or 0) * replicas * _USE_MAX_WITH_ONE_LESS
