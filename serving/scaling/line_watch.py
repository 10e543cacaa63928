"""What Ray's controller knows of a model's line, and what it tells of the model in turn.

The policy runs inside the controller's loop, where a call that takes a second delays every
deployment of the cluster; it reads `view` and calls `tell` instead, and a thread speaks to Redis
four times a second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from serving.flow.demand import Demand
from serving.flow.flow_reader import FlowReader
from serving.flow.model_store import ModelStore
from serving.flow.record import model_record_json
from serving.scaling.replica_pace import ReplicaPace

# A worker's heartbeat takes up to a second, Ray's loop another: with this, three are kept.
_PERIOD_S = 0.25
# Older than that, a look says nothing.
_STALE_S = 3.0
# Ray's controller is asked about starts that do not end so often: it makes up a report of all.
_STATUS_PERIOD_S = 1.0
# Ray asks its policies once a second. One that it asks no more has no model any more: an
# application that drains before it is deleted keeps its policy for as long as that takes.
_UNASKED_S_MAX = 10.0

_log = logging.getLogger("ray.serve")

StartFailure = Callable[[], str | None]
"""Why Ray has given the replicas up, None where it has not. May raise whatever Ray raises."""


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
    """Reads and tells until it is stopped. `replicas_max` and `adapters` are told as they are.

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
        flow_url = os.environ["FLOODGATE_FLOW_URL"]
        self._model = model
        self._replicas_max = replicas_max
        self._adapters = adapters
        self._clock = clock
        self._reader = FlowReader(flow_url, model=model)
        self._store = ModelStore(flow_url, model=model)
        self._pace = ReplicaPace()
        self._view = LineView()
        self._wanted: int | None = None
        self._told_at = float("-inf")
        self._facts: dict[str, Any] | None = None
        self._ask_failure: StartFailure | None = None
        self._asked_at = float("-inf")
        self._is_unread = False
        self._stopping = threading.Event()
        self.failure: str | None = None
        threading.Thread(target=self._run, name="line-watch", daemon=True).start()

    @property
    def view(self) -> LineView | None:
        """The last look, or None where it is too old to act on."""
        view = self._view
        return view if self._clock() - view.read_at < _STALE_S else None

    def tell(self, wanted: int, start_failure: StartFailure | None = None) -> None:
        """So many replicas are wanted now: gateways tell a model that sleeps from a dead one.

        With `start_failure`, none of them runs: it is asked now and then, for `failure`.
        """
        self._wanted, self._told_at = wanted, self._clock()
        self._ask_failure = start_failure

    def stop(self) -> None:
        """Returns at once; a look that is under way is the last."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(_PERIOD_S):
            try:
                self._look()
                self._look_at_starts()
                self._write()
            except Exception as error:  # the thread must outlive whatever it reads
                if not self._is_unread:
                    trace = not isinstance(error, RedisError)
                    _log.warning(
                        "%s: the line cannot be read, replicas stay as they are: %s",
                        self._model,
                        error,
                        exc_info=trace,
                    )
                self._is_unread = True
            else:
                self._is_unread = False
        # The record expires by itself: a policy that takes over may have written it anew by now.
        self._reader.close()
        self._store.close()

    def _look(self) -> None:
        look, now = self._reader.look(), self._clock()
        self._pace.look(look.replicas, now)
        if running := [each for each in look.replicas if each["state"] == "running"]:
            self._facts = running[0]
        pace = self._pace
        self._view = LineView(
            look.demand, look.pin, pace.slots, pace.tokens_per_s, pace.start_s, now
        )

    def _look_at_starts(self) -> None:
        ask, now = self._ask_failure, self._clock()
        if ask is None:
            self.failure = None
        elif now - self._asked_at >= _STATUS_PERIOD_S:
            self._asked_at = now
            failure = ask()
            if failure and not self.failure:
                _log.warning("%s: no replica starts: %s", self._model, failure)
            self.failure = failure

    def _write(self) -> None:
        if self._wanted is None or self._clock() - self._told_at > _UNASKED_S_MAX:
            return  # nobody has asked for a decision yet, or any more
        record = model_record_json(
            replicas_wanted=self._wanted,
            replicas_max=self._replicas_max,
            adapters=self._adapters,
            facts=self._facts,
            start_failure=self.failure or "",
        )
        self._store.write(record)
