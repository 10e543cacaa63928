"""The steps that every request to the engine takes, held together for the routes."""

from dataclasses import dataclass

from gateway.admission import Admission
from gateway.auth import Authenticator
from gateway.limits import Limits
from gateway.plans import Plans
from gateway.token_count import TokenCounter
from gateway.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Gate:
    """Built once per worker in gateway.app."""

    authenticator: Authenticator
    plans: Plans
    counter: TokenCounter
    limits: Limits
    admission: Admission
    upstream: Upstream
    body_bytes_max: int
    stream_life_s_max: float
