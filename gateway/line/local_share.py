"""Who gets a slot while the flow Redis is gone: this worker's share, in a fair order. Pure.

A worker then knows its own callers only. Each replica's slots are divided by the living workers,
and the next slot goes to the account that runs least here, its oldest request first.
"""

from collections.abc import Iterable, Mapping

from gateway.engines.replica_record import Replica
from gateway.line.ticket import Ticket

# Looking further costs more than it gives: an outage of the flow Redis lasts seconds.
_LOOKED_AT_MAX = 500


def replica_with_room(
    replicas: Iterable[Replica], held: Mapping[str, int], live_workers: int, avoid: str | None
) -> Replica | None:
    """The replica with the largest part of this worker's share free."""
    best, best_free = None, 0.0
    for replica in replicas:
        share = max(1, replica.slots // max(1, live_workers))
        free = (share - held.get(replica.replica_id, 0)) / share
        if replica.replica_id != avoid and free > best_free:
            best, best_free = replica, free
    return best


def share_of(limit: int, live_workers: int) -> int:
    """One worker's part of a limit, rounded up: at least one where there is one."""
    return -(-limit // max(1, live_workers))


def next_ticket(
    waiting: Iterable[Ticket], running: Mapping[str, int], live_workers: int
) -> Ticket | None:
    """The first ticket of the account that runs least and may run another."""
    best: Ticket | None = None
    for looked_at, ticket in enumerate(waiting):
        if looked_at >= _LOOKED_AT_MAX:
            break
        runs = running.get(ticket.ask.account_id, 0)
        if runs >= share_of(ticket.ask.concurrent_requests, live_workers):
            continue
        if best is None or runs < running.get(best.ask.account_id, 0):
            best = ticket
    return best
