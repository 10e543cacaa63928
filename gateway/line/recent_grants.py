"""Grants that have arrived, and what those were charged who left before theirs did. Pure."""

from typing import TypeVar

# A grant may arrive twice, by push and by heartbeat, about a second apart; and as late as that
# after its ticket has left. A worker is granted some 3,500 in that time.
_REMEMBERED_MAX = 10_000

_Value = TypeVar("_Value")


class RecentGrants:
    """Remembers the newest 10,000 of each."""

    def __init__(self) -> None:
        self._arrived: dict[str, None] = {}
        self._charges_of_left: dict[str, float] = {}

    def is_new(self, ticket_id: str) -> bool:
        """Notes that a ticket's grant has arrived; False for one that had arrived before."""
        if ticket_id in self._arrived:
            return False
        _add_newest(self._arrived, ticket_id, None)
        return True

    def expect(self, ticket_id: str, charge: float) -> None:
        """The ticket has left, and a grant may still be on its way."""
        _add_newest(self._charges_of_left, ticket_id, charge)

    def charge_of_left(self, ticket_id: str) -> float:
        """What a grant has charged for nothing; 0 where no such grant was expected."""
        return self._charges_of_left.pop(ticket_id, 0.0)


def _add_newest(remembered: dict[str, _Value], ticket_id: str, value: _Value) -> None:
    remembered[ticket_id] = value
    if len(remembered) > _REMEMBERED_MAX:
        del remembered[next(iter(remembered))]
