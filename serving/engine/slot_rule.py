"""How many slots a replica offers: as many as its engine runs without queueing or preempting. Pure.

Fewer when vLLM preempts (it computes again what it has thrown away) or keeps requests waiting
while it runs fewer than the slots and no more than before (while it reads in what came at once, it
runs more with each look); more when the line waits, all slots run and the KV cache has
room for another step. The bounds are the operator's.

While the engine runs all that it can batch, some more are offered, on standby: their requests wait
inside vLLM, so that it has the next one in the step in which one ends. From the end of an answer
to the first step of the next grant two or three steps pass on two busy cores. Where fewer slots
than the batch are offered, vLLM would run whatever it was given: then nothing stands by.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.flow.record import EngineLoad

# A record is written once a second, and one look may fall between a grant and its first step.
_LOOKS = 3
# A preemption costs a whole prefill: give way at once and by much.
_AFTER_PREEMPTION = 0.75
# Requests that run now still grow; until they have ended, no slot is added.
_HOLD_S = 10.0
_STEP_SHARE = 8
# What the KV cache may be filled to if those who come are like those who run.
_KV_USE_MAX = 0.9


@dataclass(frozen=True, slots=True)
class SlotRange:
    """Slots of one replica: what they may fall to, begin with and may rise to, and on standby."""

    least: int
    start: int
    most: int
    standby: int = 0


class SlotRule:
    """Looked at once a second; remembers what it saw."""

    def __init__(self, slot_range: SlotRange) -> None:
        self._range = slot_range
        self.slots = slot_range.start
        self._preemptions = 0
        self._running = 0
        self._queueing_looks = 0
        self._roomy_looks = 0
        self._held_until = float("-inf")

    @property
    def offered(self) -> int:
        """What the gateways may hold at once: the slots, and those on standby."""
        return self.slots + self._standby

    @property
    def _standby(self) -> int:
        return self._range.standby if self.slots == self._range.most else 0

    def look(self, load: EngineLoad, *, line_waits: bool, now: float) -> int:
        """What is offered from now on. `now` in seconds of a monotonic clock."""
        preempted = load.preemptions > self._preemptions
        self._preemptions = load.preemptions
        is_full = load.running >= self.slots or load.running > self._running
        queues = load.waiting > self._standby and not is_full
        self._running = load.running
        self._queueing_looks = self._queueing_looks + 1 if queues else 0
        has_room = line_waits and not preempted and self._has_room(load)
        self._roomy_looks = self._roomy_looks + 1 if has_room else 0
        if preempted:
            self._lower(int(self.slots * _AFTER_PREEMPTION), now)
        elif self._queueing_looks >= _LOOKS:
            self._lower(load.running, now)
        elif self._roomy_looks >= _LOOKS and now >= self._held_until:
            self.slots = min(self._range.most, self.slots + self._step)
            self._roomy_looks = 0
        return self.offered

    @property
    def _step(self) -> int:
        return max(1, self.slots // _STEP_SHARE)

    def _has_room(self, load: EngineLoad) -> bool:
        if load.waiting or load.running < self.slots - 1:
            return False
        use_after = load.kv_use * (self.slots + self._step) / max(1, load.running)
        return use_after <= _KV_USE_MAX

    def _lower(self, slots: int, now: float) -> None:
        self.slots = max(self._range.least, min(slots, self.slots - 1))
        self._held_until = now + _HOLD_S
        self._queueing_looks = 0
