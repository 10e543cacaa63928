"""The steps that every request to the engine takes, held together for the routes."""

from dataclasses import dataclass

from gateway.admission import Admission
from gateway.auth import Authenticator
from gateway.rate_limit import RateLimiter
from gateway.request_policy import PolicyBounds
from gateway.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Gate:
    """Built once per worker in gateway.app."""

    authenticator: Authenticator
    rate_limiter: RateLimiter
    admission: Admission
    upstream: Upstream
    policy_bounds: PolicyBounds
    body_bytes_max: int
    stream_life_s_max: float
