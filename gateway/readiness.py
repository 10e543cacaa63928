"""Whether this worker can take requests into the line.

Ready means: ledger, flow and engine have each answered since the worker started, and it is not
stopping. What fails later is told in the report but leaves the worker ready: it still refuses,
waits and serves known keys in good order, and a load balancer that removed it would take away the
line just when it is needed.
"""

from collections.abc import Callable
from typing import Any

from gateway.engines.capacity import Capacity
from gateway.flow.redis_client import FlowRedis


class Readiness:
    def __init__(
        self, flow: FlowRedis, capacity: Capacity, ledger_available: Callable[[], bool]
    ) -> None:
        self._flow = flow
        self._capacity = capacity
        self._ledger_available = ledger_available
        self._flow_answered = False
        self._ledger_answered = False
        self.stopping = False

    def report(self) -> dict[str, Any]:
        """The state as a JSON document; `ready` decides the status."""
        ledger, flow = self._ledger_available(), self._flow.available
        self._ledger_answered |= ledger
        self._flow_answered |= flow
        pools = self._capacity.view.by_model
        return {
            "ready": self._ledger_answered
            and self._flow_answered
            and self._capacity.engine_answered
            and not self.stopping,
            "stopping": self.stopping,
            "ledger": "ok" if ledger else "gone",
            "flow": "ok" if flow else "gone",
            "engine": {
                "answered_since_start": self._capacity.engine_answered,
                "models": {
                    name: {
                        "state": pool.state,
                        "replicas_running": len(pool.running),
                        "replicas": len(pool.replicas),
                        "slots": sum(r.slots for r in pool.running),
                        "engine_running": sum(r.engine.running for r in pool.replicas),
                        "engine_waiting": sum(r.engine.waiting for r in pool.replicas),
                    }
                    for name, pool in pools.items()
                },
            },
        }
