"""A running engine looked at once a second: the slots it can take, and whether it stands still."""

from __future__ import annotations

import logging
from collections.abc import Callable

from serving.engine.hang_watch import HangWatch
from serving.engine.slot_rule import SlotRule
from serving.flow.record import EngineLoad

# A record may be written sooner than the second; a look counts once a second all the same.
_LOOK_PERIOD_S = 0.9

_log = logging.getLogger("ray.serve")


class EngineWatch:
    """`unfinished` tells the requests that the engine has, `kill` ends its processes."""

    def __init__(
        self,
        slots: SlotRule,
        hang: HangWatch,
        *,
        unfinished: Callable[[], int],
        kill: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._hang = hang
        self._unfinished = unfinished
        self._kill = kill
        self._clock = clock
        self._looked_at = float("-inf")
        self.is_killed = False

    @property
    def slots(self) -> int:
        """What the replica offers now."""
        return self._slots.offered

    def look(self, load: EngineLoad, *, line_waits: bool) -> None:
        """One look; kills an engine that has stood still for too long."""
        now = self._clock()
        if self.is_killed or now - self._looked_at < _LOOK_PERIOD_S:
            return
        self._looked_at = now
        before = self.slots
        after = self._slots.look(load, line_waits=line_waits, now=now)
        if after != before:
            _log.warning("slots: %d instead of %d (%s)", after, before, load)
        if self._hang.look(load, unfinished=self._unfinished(), now=now):
            _log.error("the engine has work and does nothing: it is killed (%s)", load)
            self.is_killed = True
            self._kill()
