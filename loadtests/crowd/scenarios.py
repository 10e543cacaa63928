"""The scenarios: who calls, how many of them, and when. Pure.

Kinds of callers (`loadtests/crowd/users.py`):

patient    sends, reads the answer, sends again; refused, it waits as the SDKs do, then gives up
greedy     the same on many connections of one account
impatient  hangs up when no token came within its patience
crowd      requests at a constant rate over many accounts, however slow the answers are: no
           retries, so that the offered load is exactly the rate
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtests.errors import BenchError

KINDS = ("patient", "greedy", "impatient", "crowd")


@dataclass(frozen=True, slots=True)
class Scale:
    """What a scenario is sized by."""

    slots: int
    """Requests that the engines run at once."""
    overload: float = 20.0
    """Offered load over capacity."""
    duration_s: float = 180.0
    calm_s: float = 15.0
    """Before and after the spike: half of the slots are asked for."""
    greedy_connections: int = 100


@dataclass(frozen=True, slots=True)
class Stage:
    """Until `until_s` since the start, so many callers of each kind."""

    until_s: float
    users: Mapping[str, int]

    @property
    def user_count(self) -> int:
        """Callers of all kinds."""
        return sum(self.users.values())


Scenario = tuple[Stage, ...]


def spike(scale: Scale) -> Scenario:
    """Calm, then 20 times what fits, then calm: the line drains by itself."""
    calm = {"patient": max(1, scale.slots // 2)}
    crowd = {"patient": scale.slots, "greedy": scale.greedy_connections, "crowd": 1}
    spike_ends_s = scale.calm_s + scale.duration_s
    return (
        Stage(scale.calm_s, calm),
        Stage(spike_ends_s, crowd),
        Stage(spike_ends_s + scale.calm_s, calm),
    )


def greedy(scale: Scale) -> Scenario:
    """One account on many connections beside ordinary ones that all want more than they get."""
    ordinary = round(scale.slots * max(2.0, scale.overload / 4))
    return (Stage(scale.duration_s, {"patient": ordinary, "greedy": scale.greedy_connections}),)


def impatient(scale: Scale) -> Scenario:
    """Twice as many callers as slots, and as many again that hang up in line."""
    callers = 2 * scale.slots
    return (Stage(scale.duration_s, {"patient": callers, "impatient": callers}),)


def closed(scale: Scale) -> Scenario:
    """Exactly as many callers as slots: the best that the engines can sustain."""
    return (Stage(scale.duration_s, {"patient": scale.slots}),)


def shares(scale: Scale) -> Scenario:
    """Patient callers alone, several times as many as slots; for accounts of unlike weights."""
    return (Stage(scale.duration_s, {"patient": round(scale.slots * max(2.0, scale.overload))}),)


SCENARIOS: Mapping[str, Callable[[Scale], Scenario]] = {
    "spike": spike,
    "greedy": greedy,
    "impatient": impatient,
    "closed": closed,
    "shares": shares,
}


def find_scenario(name: str, scale: Scale) -> Scenario:
    """A scenario by name.

    Raises:
        BenchError: there is none.
    """
    if name not in SCENARIOS:
        raise BenchError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return SCENARIOS[name](scale)


def stage_at(scenario: Scenario, run_s: float) -> Stage | None:
    """The stage that a run is in; None when it is over."""
    return next((stage for stage in scenario if run_s < stage.until_s), None)
