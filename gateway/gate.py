"""The steps that every request to the engine takes, held together for the routes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.auth import Authenticator
from gateway.endpoints import Endpoint
from gateway.engines.capacity import Capacity
from gateway.engines.deadlines import Deadlines
from gateway.engines.routing import Routing
from gateway.engines.upstream import Upstream
from gateway.limits.flow_limits import Limits
from gateway.limits.plans import Plans
from gateway.limits.token_count import TokenCounter
from gateway.line.admission import Admission
from gateway.request.request_policy import (
    THREAD_FROM_BYTES,
    PolicyBounds,
    RequestView,
    view_request,
)
from gateway.waiting import LineEntrance


@dataclass(frozen=True, slots=True)
class Gate:
    """Built once per worker in gateway.app."""

    authenticator: Authenticator
    plans: Plans
    routing: Routing
    counter: TokenCounter
    limits: Limits
    capacity: Capacity
    admission: Admission
    entrance: LineEntrance
    upstream: Upstream
    bounds: PolicyBounds
    cache_salt_secret: bytes
    prefix_affinity: bool
    body_bytes_max: int
    lives: Deadlines
    # Whether this worker was told to stop: what it still runs is cancelled in the end.
    stopping: Callable[[], bool]

    async def view(self, endpoint: Endpoint, body: bytes) -> RequestView:
        """Reads and judges a body; a large one in a thread, so that the loop does not stand still.

        Raises:
            InvalidRequest: see gateway.request.request_policy.view_request.
        """
        if len(body) < THREAD_FROM_BYTES:
            return view_request(endpoint, body, self.bounds)
        return await asyncio.to_thread(view_request, endpoint, body, self.bounds)
