"""What Ray's controller knows of a model's line, and what it tells of the model in turn.

The policy runs inside the controller's loop, where a call that takes a second delays every
deployment of the cluster; it reads `view` and sets `wanted` instead, and a thread speaks to Redis
four times a second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from serving.flow.demand import Demand
from serving.flow.flow_reader import FlowReader
from serving.flow.publisher import ModelStore
from serving.flow.record import model_record_json
from serving.scaling.replica_pace import ReplicaPace

# A worker's heartbeat takes up to a second, Ray's loop another: with this, three are kept.
_PERIOD_S = 0.25
# Older than that, a look says nothing.
_STALE_S = 3.0
# Ray asks its policies once a second. One that it asks no more has no model any more: an
# application that drains before it is deleted keeps its policy for as long as that takes.
_UNASKED_S_MAX = 10.0

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
    """Reads and tells until it is collected. `replicas_max` and `adapters` are told as they are.

    FLOODGATE_FLOW_URL comes from the environment of Ray's run, not as an argument, which Ray
    would log.
    """

    def __init__(
        self,
        model: str,
        *,
        replicas_max: int,
        adapters: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._kept = _Kept(replicas_max, adapters)
        stop = threading.Event()
        flow_url = os.environ["FLOODGATE_FLOW_URL"]
        reader, store = FlowReader(flow_url, model=model), ModelStore(flow_url, model=model)
        arguments = (reader, store, self._kept, clock, stop)
        threading.Thread(target=_run, args=arguments, name="line-watch", daemon=True).start()
        weakref.finalize(self, stop.set)

    @property
    def view(self) -> LineView | None:
        """The last look, or None where it is too old to act on."""
        view = self._kept.view
        return view if self._clock() - view.read_at < _STALE_S else None

    def tell(self, wanted: int) -> None:
        """So many replicas are wanted now: gateways tell a model that sleeps from a dead one."""
        self._kept.wanted, self._kept.told_at = wanted, self._clock()


@dataclass(slots=True)
class _Kept:
    """What the thread and the policy share; apart from LineWatch, so that it can be collected."""

    replicas_max: int
    adapters: tuple[str, ...]
    view: LineView = field(default_factory=LineView)
    wanted: int | None = None
    told_at: float = float("-inf")
    facts: dict[str, Any] | None = None

    def record(self, now: float) -> str | None:
        """The model's record, None as long as nobody says what is wanted, and from then on."""
        if self.wanted is None or now - self.told_at > _UNASKED_S_MAX:
            return None
        return model_record_json(
            replicas_wanted=self.wanted,
            replicas_max=self.replicas_max,
            adapters=self.adapters,
            facts=self.facts,
        )


def _run(
    reader: FlowReader,
    store: ModelStore,
    kept: _Kept,
    clock: Callable[[], float],
    stop: threading.Event,
) -> None:
    pace, is_failing = ReplicaPace(), False
    while not stop.wait(_PERIOD_S):
        try:
            _look(reader, kept, pace, clock)
            if record := kept.record(clock()):
                store.write(record)
        except RedisError as error:
            if not is_failing:
                _log.warning("the line cannot be read, replicas stay as they are: %s", error)
            is_failing = True
        except Exception:
            _log.exception("the line cannot be read, replicas stay as they are")
        else:
            is_failing = False
    # The record expires by itself: a policy that takes over may have written it anew by now.
    reader.close()
    store.close()


def _look(reader: FlowReader, kept: _Kept, pace: ReplicaPace, clock: Callable[[], float]) -> None:
    look, now = reader.look(), clock()
    pace.look(look.replicas, now)
    if running := [each for each in look.replicas if each["state"] == "running"]:
        kept.facts = running[0]
    kept.view = LineView(look.demand, look.pin, pace.slots, pace.tokens_per_s, pace.start_s, now)
