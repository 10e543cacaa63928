"""Whether another replica can answer in place of one that has failed."""

import asyncio
import time

from gateway.engines.capacity import Capacity

# The record of a replica that was killed lives for five seconds more, and a busy machine takes
# some to see it.
GONE_S_MAX = 10.0
# A replica whose engine has died says so within a second and is seen within another; the third is
# for a busy machine. Where it stays, it failed on this request alone.
FAILED_S_MAX = 3.0
_LOOK_S = 0.2


async def another_may_come(
    capacity: Capacity, pool_name: str, *, than: str | None, within_s: float
) -> bool:
    """Whether another replica runs; or, where this one leaves within the time, is to follow.

    Else the line would wait for a replica that never comes. `than` is this one, None where it has
    been left out (Capacity.leave_out).
    """
    give_up_at = time.monotonic() + within_s
    while True:
        pool = capacity.view.pool_named(pool_name)
        if any(replica.replica_id != than for replica in pool.running):
            return True
        if not pool.is_kept:
            return False
        if not pool.running:
            return True
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(_LOOK_S)
