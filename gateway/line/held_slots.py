"""What one worker holds in one pool, and what of it Redis has not been told yet. Pure.

A slot goes held → to release → (in a call under way) → gone. A heartbeat is sent while no call is
unanswered; Redis must then count what is held and what later calls will give back. Corrections are
not in that count: they go in numbered batches, each of which is sent until it is answered.
"""

import itertools
from collections import Counter

# Lua cannot unpack more than some 8,000 values; the rest goes with the next call.
_ACKNOWLEDGED_MAX = 1000
# Accounts whose charges one call corrects: 500 take Redis some 5 ms.
_CORRECTIONS_MAX = 500


class HeldSlots:
    def __init__(self) -> None:
        self.by_replica: Counter[str] = Counter()
        self.by_account: Counter[str] = Counter()
        # What later calls give back.
        self._freed_by_replica: Counter[str] = Counter()
        self._ended_by_account: Counter[str] = Counter()
        self._corrections: dict[str, float] = {}
        self._acknowledged: list[str] = []
        # What the call under way carries.
        self._sent_by_replica: Counter[str] = Counter()
        self._sent_by_account: Counter[str] = Counter()
        self._sent_acknowledged: list[str] = []
        # Of the batch that was sent last, until it is answered.
        self._sent_corrections: dict[str, float] = {}
        self._batch = 0

    @property
    def total(self) -> int:
        return self.by_replica.total()

    def take(self, replica_id: str, account_id: str) -> None:
        self.by_replica[replica_id] += 1
        self.by_account[account_id] += 1

    def acknowledge(self, ticket_id: str) -> None:
        """A grant has arrived; the next call says so."""
        self._acknowledged.append(ticket_id)

    def release(self, replica_id: str, account_id: str) -> None:
        self.by_replica[replica_id] -= 1
        self.by_account[account_id] -= 1
        self._freed_by_replica[replica_id] += 1
        self._ended_by_account[account_id] += 1

    def correct(self, account_id: str, charge: float) -> None:
        """The account was charged too little (above 0) or too much (below) at its grant."""
        self._corrections[account_id] = self._corrections.get(account_id, 0.0) + charge

    @property
    def has_news(self) -> bool:
        return bool(self._freed_by_replica or self._corrections or self._sent_corrections)

    def next_release(self) -> list[str | int]:
        """Arguments of release_slots.lua behind the worker; from now on they count as sent."""
        self._sent_by_replica, self._freed_by_replica = self._freed_by_replica, Counter()
        self._sent_by_account, self._ended_by_account = self._ended_by_account, Counter()
        if not self._sent_corrections and self._corrections:
            self._batch += 1
            self._sent_corrections = self._take_corrections()
        corrections = self._sent_corrections
        args: list[str | int] = [self._batch if corrections else 0]
        args += _counted(self._sent_by_replica)
        accounts = {*self._sent_by_account, *corrections}
        args.append(len(accounts))
        for account in accounts:
            correction = f"{corrections.get(account, 0.0):.6f}"
            args += (account, self._sent_by_account[account], correction)
        self._sent_acknowledged = self._take_acknowledged()
        return [*args, *self._sent_acknowledged]

    def release_answered(self) -> None:
        self._sent_corrections = {}
        self._release_ended()

    def release_failed(self) -> None:
        """Nobody knows whether it ran.

        The next heartbeat puts the counts right, and tells of grants once more that Redis takes
        for unacknowledged. Corrections are sent again, in the same batch.
        """
        self._release_ended()

    def slots_to_count(self) -> Counter[str]:
        """Slots by replica that a heartbeat tells: held, and to be given back by later calls."""
        self.by_replica = +self.by_replica
        return self.by_replica + self._freed_by_replica + self._sent_by_replica

    def requests_to_count(self) -> Counter[str]:
        """The same of requests by account."""
        self.by_account = +self.by_account
        return self.by_account + self._ended_by_account + self._sent_by_account

    def acknowledgements(self) -> list[str]:
        """Tickets whose grant has arrived and that no answered call has named."""
        return self._take_acknowledged() + self._sent_acknowledged

    def _take_acknowledged(self) -> list[str]:
        taken = self._acknowledged[:_ACKNOWLEDGED_MAX]
        del self._acknowledged[:_ACKNOWLEDGED_MAX]
        return taken

    def _take_corrections(self) -> dict[str, float]:
        if len(self._corrections) <= _CORRECTIONS_MAX:
            taken, self._corrections = self._corrections, {}
            return taken
        accounts = list(itertools.islice(self._corrections, _CORRECTIONS_MAX))
        return {account: self._corrections.pop(account) for account in accounts}

    def _release_ended(self) -> None:
        self._sent_by_replica, self._sent_by_account = Counter(), Counter()
        self._sent_acknowledged = []


def _counted(counts: Counter[str]) -> list[str | int]:
    flat: list[str | int] = [len(counts)]
    for name, count in counts.items():
        flat += (name, count)
    return flat
