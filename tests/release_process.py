"""A process that runs automatic release: python -m tests.release_process LEDGER_URL [DIE_AT].

Its line is a number in the ledger. DIE_AT names a point at which it ends itself as `kill -9` does:
`decided` (nobody let in yet), `midway` (some let in), `released` (all let in, not yet noted).
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

import redis.asyncio as redis
import redis.exceptions as redis_errors

from waitlist.errors import LedgerUnavailable
from waitlist.release.activation_learner import ActivationLearner
from waitlist.release.release_controller import ControllerTimes, ReleaseController, ServingLoad
from waitlist.release.release_sizing import NewcomerUse, SizingPolicy
from waitlist.release.release_store import ReleaseStore
from waitlist.storage.ledger import Ledger

TAG = "test:{ledger}:"
WAITING = f"{TAG}waiting"
LET_IN = f"{TAG}let-in"
CAPACITY = f"{TAG}capacity"
TIMES = ControllerTimes(lease_s=1.0, tick_s=0.05, sample_every_s=0.1, decide_every_s=0.2)
_STEP = 3
_LET_IN = """
local have = tonumber(redis.call('GET', KEYS[1]) or '0')
local more = math.min(tonumber(ARGV[1]) - have, tonumber(ARGV[2]),
  tonumber(redis.call('GET', KEYS[2]) or '0'))
redis.call('INCRBY', KEYS[1], more)
redis.call('DECRBY', KEYS[2], more)
redis.call('INCRBY', KEYS[3], more)
return {have + more, more}
"""


@contextlib.contextmanager
def as_waitlist_errors() -> Iterator[None]:
    """What a door raises when the ledger is gone."""
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        raise LedgerUnavailable(str(error)) from error


class NumberedDoor:
    """A line of so many people, let in a few at a time."""

    def __init__(self, client: "redis.Redis", die_at: str) -> None:
        self._client = client
        self._die_at = die_at

    async def people_waiting(self) -> int:
        with as_waitlist_errors():
            return int(await self._client.get(WAITING) or 0)

    async def is_paused(self) -> bool:
        return False

    async def release(self, count: int, decision_id: str) -> int:
        self._maybe_die("decided")
        keys = [f"{TAG}door:{decision_id}", WAITING, LET_IN]
        while True:
            with as_waitlist_errors():
                let_in, more = await self._client.eval(_LET_IN, 3, *keys, count, _STEP)
            if more == 0:
                self._maybe_die("released")
                return int(let_in)
            self._maybe_die("midway")

    def _maybe_die(self, point: str) -> None:
        if point == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


class StoredGauge:
    """Capacity is a number in the ledger; people ask next to nothing."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client

    async def read(self) -> ServingLoad:
        with as_waitlist_errors():
            capacity = float(await self._client.get(CAPACITY) or 0)
        return ServingLoad(capacity, 0.0, "")


class KnownNewcomers:
    """A thousand people who asked next to nothing."""

    async def read(self) -> NewcomerUse:
        return NewcomerUse(1000, 1000.0, 1.0)


async def main(url: str, die_at: str) -> None:
    ledger = Ledger(url, deadline_s=5.0)
    async with redis.Redis.from_url(url, decode_responses=True) as client:
        controller = ReleaseController(
            store=ReleaseStore(ledger),
            gauge=StoredGauge(client),
            door=NumberedDoor(client, die_at),
            newcomers=KnownNewcomers(),
            learner=ActivationLearner(ledger, invite_life_s=7 * 86_400.0),
            policy=SizingPolicy(batch_max=20),
            times=TIMES,
            clock=time.time,
        )
        print(controller.holder, flush=True)
        await controller.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], (sys.argv[2:] or [""])[0]))
