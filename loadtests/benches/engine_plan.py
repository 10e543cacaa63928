"""How much `bench engine` measures, on processors and on GPUs."""

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path


class Answers(StrEnum):
    """Lengths of the answers under a standing line: alike they end in waves, mixed they do not."""

    ALIKE = "alike"
    MIXED = "mixed"


@dataclass(frozen=True)
class EnginePlan:
    """How much to measure. `chats` pairs each concurrency with how many chats a run sends."""

    model: Path | None = None
    rounds: int = 5
    chats: tuple[tuple[int, int], ...] = ((1, 10), (8, 40), (32, 96))
    output_tokens: int = 64
    # Twice the slots of the one replica, so that as many wait as run: chats at a time, and in all.
    # Once with all answers of `output_tokens`, once with half to one and a half times as many.
    standing: tuple[int, int] = (64, 160)

    is_quick: bool = False

    def answer_lengths(self, answers: Answers, count: int, seed: int) -> list[int]:
        """Tokens of so many answers; `output_tokens` on average."""
        if answers is Answers.ALIKE:
            return [self.output_tokens] * count
        half, source = self.output_tokens // 2, random.Random(seed)
        return [source.randint(half, 3 * half) for _ in range(count)]

    def quick(self) -> "EnginePlan":
        """Enough to see that it works, not for figures."""
        return replace(
            self, rounds=1, chats=((1, 3), (8, 16), (32, 32)), standing=(64, 96), is_quick=True
        )

    def for_gpu(self, slots: int) -> "EnginePlan":
        """The same for a replica of so many slots; a GPU is measured up to all of them."""
        levels = sorted({level for level in (1, 8, 32, 128) if level < slots} | {slots})
        times = 2 if self.is_quick else 4
        return replace(
            self,
            chats=tuple((level, max(level * times, 5)) for level in levels),
            output_tokens=128,
            standing=(2 * slots, 4 * slots if self.is_quick else 6 * slots),
        )
