"""One engine's clock: steps end when they are due, and their tokens go to the answers.

Steps are laid end to end on a time line of their own, so that a late timer delays tokens and
never slows the engine: what is overdue is made up in one turn, with one write an answer.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as AbstractSequence
from typing import Protocol

from loadtests.engine_simulator.batch import Batch, Sequence, Step
from loadtests.engine_simulator.faults import Faults
from loadtests.engine_simulator.profile import EngineProfile

# The loop's timers tick in milliseconds, rounded: what is due within half of one is due.
_TICK_S = 0.0005


class TokenSink(Protocol):
    """Whoever owns sequences."""

    def on_tokens(self, tokens: AbstractSequence[tuple[Sequence, int]]) -> None:
        """New tokens of this owner's sequences: each with its number, counted from 1."""


class SimulatedEngine:
    """Runs sequences of one profile on the running loop; `speed` times faster than it says."""

    def __init__(
        self, profile: EngineProfile, faults: Faults, *, speed: float, clock: Callable[[], float]
    ) -> None:
        self.profile = profile
        self.faults = faults
        self.batch = Batch(profile)
        self.generation_tokens = 0
        self.prompt_tokens = 0
        self.lag_s_max = 0.0
        """The latest that a step's end was noticed: where it grows, the process is too slow."""
        self._speed = speed
        self._clock = clock
        self._step: Step | None = None
        self._step_ends_at_s = 0.0
        self._stalled_until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self.batch.running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for the batch."""
        return len(self.batch.waiting)

    def submit(self, sequences: AbstractSequence[Sequence]) -> None:
        """Queue the sequences of one request; their owner is a TokenSink."""
        arrived_at_s = self._clock() + self.profile.request_s / self._speed
        for sequence in sequences:
            sequence.arrived_at_s = arrived_at_s
            self.batch.add(sequence)
        if self._step is None:
            self._begin_step(max(self._clock(), self._stalled_until_s))
            self._arm()

    def abort(self, sequences: AbstractSequence[Sequence]) -> None:
        """Forget sequences that are not finished."""
        for sequence in sequences:
            if not sequence.is_finished:
                self.batch.abort(sequence)

    def stall(self, duration_s: float) -> None:
        """Let no step end for so long, on the wall clock; steps go on where they were."""
        now_s = self._clock()
        self.end_stall()
        self._stalled_until_s = now_s + duration_s
        self._step_ends_at_s += duration_s
        self._arm()

    def end_stall(self) -> None:
        """Go on now."""
        left_s = self._stalled_until_s - self._clock()
        if left_s > 0:
            self._stalled_until_s = 0.0
            self._step_ends_at_s -= left_s
            self._arm()

    def drop_all(self) -> None:
        """Lose everything, as a crash does."""
        self.batch = Batch(self.profile)
        self._step = None
        self._arm()

    def _begin_step(self, at_s: float) -> None:
        """Plan a step that begins at `at_s`, or wait for the first request that is on its way."""
        self._step = self.batch.plan(at_s)
        if self._step is None and self.batch.waiting:
            at_s = self.batch.waiting[0].arrived_at_s
            self._step = self.batch.plan(at_s)
        if self._step is not None:
            step_s = self.profile.step_s(self._step.sequences, self._step.prefill_tokens)
            self._step_ends_at_s = at_s + step_s * self.faults.slow_factor / self._speed

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._step is not None:
            wait_s = max(0.0, self._step_ends_at_s - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._advance)

    def _advance(self) -> None:
        now_s = self._clock()
        self.lag_s_max = max(self.lag_s_max, now_s - self._step_ends_at_s)
        tokens: dict[TokenSink, list[tuple[Sequence, int]]] = {}
        while self._step is not None and self._step_ends_at_s <= now_s + _TICK_S:
            for sequence in self.batch.complete(self._step):
                self.generation_tokens += 1
                if sequence.generated_tokens == 1:
                    self.prompt_tokens += sequence.prompt_tokens
                tokens.setdefault(sequence.owner, []).append(  # type: ignore[arg-type]
                    (sequence, sequence.generated_tokens)
                )
            self._begin_step(self._step_ends_at_s)
        for sink, found in tokens.items():
            sink.on_tokens(found)
        # Sinks may have aborted sequences; a step that lost some still takes its time.
        self._arm()
