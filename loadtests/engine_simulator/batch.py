"""Continuous batching as vLLM's V1 scheduler does it: who is in a step, who is preempted. Pure.

In a step each running sequence decodes one token or prefills a chunk of its prompt, first come,
first served, within the step's token limit; what is left of the limit goes to waiting sequences,
as long as the batch limit and the KV cache allow. When a running sequence finds no free block,
the one that came last loses its blocks and starts over (recompute) from the head of the queue.
The prefix cache saves no time here: see prefix_cache.
"""

from collections import deque
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from loadtests.engine_simulator.profile import EngineProfile


class Sequence:
    """One answer in the making: a prompt and so many tokens to generate."""

    __slots__ = (
        "arrived_at_s",
        "blocks",
        "generated_tokens",
        "index",
        "output_tokens",
        "owner",
        "prefill_tokens_left",
        "prompt_tokens",
        "tokens_in_cache",
    )

    def __init__(
        self,
        prompt_tokens: int,
        output_tokens: int,
        *,
        arrived_at_s: float = 0.0,
        owner: object = None,
        index: int = 0,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.arrived_at_s = arrived_at_s
        self.owner = owner
        self.index = index
        self.generated_tokens = 0
        self.prefill_tokens_left = prompt_tokens
        self.tokens_in_cache = 0
        self.blocks = 0

    @property
    def is_finished(self) -> bool:
        """Whether the last token is out."""
        return self.generated_tokens >= self.output_tokens


@dataclass(slots=True)
class Step:
    """One pass of the engine: who takes part, with how many tokens each."""

    decoding: list[Sequence] = field(default_factory=list)
    prefilling: list[tuple[Sequence, int]] = field(default_factory=list)
    prefill_tokens: int = 0

    @property
    def sequences(self) -> int:
        """Sequences in the step."""
        return len(self.decoding) + len(self.prefilling)


class Batch:
    """The scheduler's state of one engine."""

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.blocks_free = profile.kv_blocks
        self.preemptions = 0

    @property
    def kv_use(self) -> float:
        """Used share of the KV cache, 0 to 1."""
        return 1.0 - self.blocks_free / self._profile.kv_blocks

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Take a sequence out wherever it is; does nothing when it is not there."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._free(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def plan(self, now_s: float) -> Step | None:
        """The next step, beginning at `now_s`; None when there is nothing to do yet.

        Sequences that arrive later than `now_s` are not seen.
        """
        step = Step()
        budget = self._plan_running(step)
        # vLLM admits nobody in a step that had to preempt.
        if budget >= 0:
            self._plan_waiting(step, budget, now_s)
        return step if step.sequences else None

    def complete(self, step: Step) -> AbstractSequence[Sequence]:
        """Apply a step that is over; the sequences that got a token, finished ones included.

        Sequences that were aborted meanwhile have left it.
        """
        grown = [sequence for sequence in step.decoding if sequence.blocks]
        for sequence, tokens in step.prefilling:
            if not sequence.blocks:
                continue
            sequence.prefill_tokens_left -= tokens
            if sequence.prefill_tokens_left == 0:
                grown.append(sequence)
        is_one_finished = False
        for sequence in grown:
            sequence.generated_tokens += 1
            if sequence.generated_tokens >= sequence.output_tokens:
                is_one_finished = True
                self._free(sequence)
        if is_one_finished:
            self.running = [one for one in self.running if not one.is_finished]
        return grown

    def _plan_running(self, step: Step) -> int:
        """Schedule the running ones; the tokens left of the step, or -1 when one was preempted."""
        budget = self._profile.step_tokens_max
        has_preempted = False
        position = 0
        while position < len(self.running) and budget > 0:
            sequence = self.running[position]
            tokens = min(sequence.prefill_tokens_left, budget) or 1
            while not self._grow(sequence, tokens):
                has_preempted = True
                # The last one may be this one: then it waits, and nobody comes after it.
                if self._preempt_last() is sequence:
                    return -1
            self._take(step, sequence, tokens)
            budget -= tokens
            position += 1
        return -1 if has_preempted else budget

    def _plan_waiting(self, step: Step, budget: int, now_s: float) -> None:
        while (
            self.waiting
            and budget > 0
            and len(self.running) < self._profile.sequences_max
            and self.waiting[0].arrived_at_s <= now_s
        ):
            sequence = self.waiting[0]
            tokens = min(sequence.prefill_tokens_left, budget)
            if not self._grow(sequence, tokens):
                return
            self.running.append(self.waiting.popleft())
            self._take(step, sequence, tokens)
            budget -= tokens

    def _take(self, step: Step, sequence: Sequence, tokens: int) -> None:
        if sequence.prefill_tokens_left:
            step.prefilling.append((sequence, tokens))
            step.prefill_tokens += tokens
        else:
            step.decoding.append(sequence)

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for so many more tokens of a sequence; False when there are too few."""
        in_cache = sequence.tokens_in_cache + tokens
        wanted = -(-in_cache // self._profile.block_tokens) - sequence.blocks
        if wanted > self.blocks_free:
            return False
        self.blocks_free -= wanted
        sequence.blocks += wanted
        sequence.tokens_in_cache = in_cache
        return True

    def _preempt_last(self) -> Sequence:
        sequence = self.running.pop()
        self._free(sequence)
        sequence.prefill_tokens_left = sequence.prompt_tokens + sequence.generated_tokens
        self.waiting.appendleft(sequence)
        self.preemptions += 1
        return sequence

    def _free(self, sequence: Sequence) -> None:
        self.blocks_free += sequence.blocks
        sequence.blocks = 0
        sequence.tokens_in_cache = 0
