"""What one line is held to, and how an account's part of it is told. Pure."""

from dataclasses import dataclass
from enum import IntEnum

from gateway.line.ticket import Place

# A place outlives the moment at which its caller was told to come back by so much.
_KEPT_BEYOND_RETRY_S = 10


class Entered(IntEnum):
    """What enter_line.lua has made of a ticket."""

    GRANTED = 1
    WAITING = 0
    LEASE_ENDED = -1
    ACCOUNT_FULL = -2
    LINE_FULL = -3


@dataclass(frozen=True, slots=True)
class LineBounds:
    """What one line may grow to."""

    tickets_max: int
    wait_s_max: float
    bytes_max: int


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account's own requests in one pool: how many run, and each that waits."""

    running: int
    waiting_everywhere: int
    places: list[tuple[str, Place]]


def kept_ms(retry_after_s: int) -> int:
    """How long the place of a caller is kept who was told to come back then."""
    return (retry_after_s + _KEPT_BEYOND_RETRY_S) * 1000
