"""What Ray's controller knows of a model's line: read in a thread, so that scaling never waits.

The policy runs inside the controller's loop, where a call that takes a second delays every
deployment of the cluster; it reads `view` instead, which this thread renews four times a second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from serving.demand import Demand
from serving.flow_reader import FlowReader
from serving.replica_pace import ReplicaPace

# A worker's heartbeat takes up to a second, Ray's loop another: with this, three are kept.
_PERIOD_S = 0.25
# Older than that, a look says nothing.
_STALE_S = 3.0

_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class LineView:
    """The last look; `demand` and `pin` are None where nothing is known, or nobody pinned."""

    demand: Demand | None = None
    pin: int | None = None
    slots: int | None = None
    tokens_per_s: float | None = None
    start_s: float = 0.0
    read_at: float = float("-inf")


class LineWatch:
    """Reads until it is collected. FLOODGATE_FLOW_URL comes from the environment of Ray's run,
    not as an argument, which Ray would log."""

    def __init__(self, model: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept = _Kept()
        stop = threading.Event()
        reader = FlowReader(os.environ["FLOODGATE_FLOW_URL"], model=model)
        threading.Thread(
            target=_read, args=(reader, self._kept, clock, stop), name="line-watch", daemon=True
        ).start()
        weakref.finalize(self, stop.set)

    @property
    def view(self) -> LineView | None:
        """The last look, or None where it is too old to act on."""
        view = self._kept.view
        return view if self._clock() - view.read_at < _STALE_S else None


class _Kept:
    """What the thread and the policy share; apart from LineWatch, so that it can be collected."""

    view = LineView()


def _read(
    reader: FlowReader, kept: _Kept, clock: Callable[[], float], stop: threading.Event
) -> None:
    pace, is_failing = ReplicaPace(), False
    while not stop.wait(_PERIOD_S):
        try:
            look = reader.look()
            pace.look(look.replicas, clock())
        except RedisError as error:
            if not is_failing:
                _log.warning("the line cannot be read, replicas stay as they are: %s", error)
            is_failing = True
            continue
        except Exception:
            _log.exception("the line cannot be read, replicas stay as they are")
            continue
        is_failing = False
        kept.view = LineView(
            look.demand, look.pin, pace.slots, pace.tokens_per_s, pace.start_s, clock()
        )
    reader.close()
