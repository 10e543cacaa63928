"""What one worker holds in one pool, and what of it Redis has not been told yet. Pure.

A slot goes held → to release → (in a call under way) → gone. A heartbeat is sent while no call is
unanswered; Redis must then count what is held and what later calls will give back.
"""

from collections import Counter

# Lua cannot unpack more than some 8,000 values; the rest goes with the next call.
_ACKNOWLEDGED_MAX = 1000


class HeldSlots:
    def __init__(self) -> None:
        self.by_replica: Counter[str] = Counter()
        self.by_account: Counter[str] = Counter()
        self._freed_replicas: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._corrections: dict[str, float] = {}
        self._acknowledged: list[str] = []
        # What the call under way carries.
        self._sent_replicas: Counter[str] = Counter()
        self._sent_ended: Counter[str] = Counter()

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
        self._freed_replicas[replica_id] += 1
        self._ended[account_id] += 1

    def correct(self, account_id: str, charge: float) -> None:
        """The account was charged too little (above 0) or too much (below) at its grant."""
        self._corrections[account_id] = self._corrections.get(account_id, 0.0) + charge

    @property
    def has_news(self) -> bool:
        return bool(self._freed_replicas or self._corrections)

    def next_release(self) -> list[str | int]:
        """Arguments of release_slots.lua behind the worker; from now on they count as sent."""
        self._sent_replicas, self._freed_replicas = self._freed_replicas, Counter()
        self._sent_ended, self._ended = self._ended, Counter()
        corrections, self._corrections = self._corrections, {}
        args = _counted(self._sent_replicas)
        accounts = {*self._sent_ended, *corrections}
        args.append(len(accounts))
        for account in accounts:
            args += (account, self._sent_ended[account], f"{corrections.get(account, 0.0):.6f}")
        return [*args, *self.take_acknowledged()]

    def release_answered(self) -> None:
        """The call was answered, or failed: then the next heartbeat corrects what it carried."""
        self._sent_replicas, self._sent_ended = Counter(), Counter()

    def slots_to_count(self) -> Counter[str]:
        """Slots by replica that a heartbeat tells: held, and to be given back by later calls."""
        self.by_replica = +self.by_replica
        return self.by_replica + self._freed_replicas + self._sent_replicas

    def requests_to_count(self) -> Counter[str]:
        """The same of requests by account."""
        self.by_account = +self.by_account
        return self.by_account + self._ended + self._sent_ended

    def take_acknowledged(self) -> list[str]:
        """Tickets whose grant has arrived and that no call has named yet."""
        taken = self._acknowledged[:_ACKNOWLEDGED_MAX]
        del self._acknowledged[:_ACKNOWLEDGED_MAX]
        return taken


def _counted(counts: Counter[str]) -> list[str | int]:
    flat: list[str | int] = [len(counts)]
    for name, count in counts.items():
        flat += (name, count)
    return flat
