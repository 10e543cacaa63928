"""How fairly the line has served, as a gauge."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.telemetry.line_metrics import FAIRNESS

# Long enough for several grants to each account at a usual rate.
_PERIOD_S = 10.0


class Service(NamedTuple):
    """What an account has been granted in one stay in line, which a ticket names."""

    stay: str
    tokens: float


def jain(shares: Sequence[float]) -> float:
    """Jain's index of what each got (Jain, Chiu and Hawe 1984): 1 when all got the same."""
    total = sum(shares)
    if not total:
        return 1.0
    return total * total / (len(shares) * sum(share * share for share in shares))


def served_between(before: Mapping[str, Service], after: Mapping[str, Service]) -> Sequence[float]:
    """What accounts got that had somebody in line at both looks and all the time between."""
    return [
        later.tokens - earlier.tokens
        for account, earlier in before.items()
        if (later := after.get(account)) is not None and later.stay == earlier.stay
    ]


class FairnessGauge:
    """Looks at each pool's service every ten seconds."""

    def __init__(self, flow: FlowRedis, clock: Callable[[], float]) -> None:
        self._flow = flow
        self._clock = clock
        self._last: dict[str, tuple[float, Mapping[str, Service]]] = {}

    async def look(self, pool: str) -> None:
        looked_at, before = self._last.get(pool, (0.0, {}))
        if self._clock() - looked_at < _PERIOD_S:
            return
        try:
            flat = await self._flow.run("read_service", (redis_keys.pool(pool),), ())
        except FlowUnavailable:
            return
        after = {
            account: Service(stay, float(tokens))
            for account, stay, tokens in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        }
        self._last[pool] = (self._clock(), after)
        FAIRNESS.labels(pool).set(jain(served_between(before, after)))
