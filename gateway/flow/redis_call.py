"""One call of a script on the flow Redis: what is asked, and who gets the answer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Args = Sequence[str | int]


@dataclass(slots=True)
class Call:
    """Made by FlowRedis. `answer` raises FlowUnavailable where none comes."""

    script: str
    keys: Sequence[str]
    args: Args | Callable[[], Args]
    answer: "asyncio.Future[Any]" = field(repr=False)
    # Sent while no other call is unanswered.
    alone: bool = False
    # Who takes the answer in place of a caller who was cancelled.
    _heir: Callable[[Any], None] | None = None

    def leave_to(self, heir: Callable[[Any], None]) -> None:
        """For a caller who was cancelled: `heir` gets the answer, now or once it has come.

        Where none comes, it hears nothing.
        """
        if not self.answer.done() or self.answer.cancelled():
            self._heir = heir
        elif self.answer.exception() is None:
            heir(self.answer.result())

    def hand_over(self, answer: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
        elif self._heir is not None:
            self._heir(answer)

    def wire(self, sha: str) -> tuple[str | int, ...]:
        args = self.args() if callable(self.args) else self.args
        return ("EVALSHA", sha, len(self.keys), *self.keys, *args)
