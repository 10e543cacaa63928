"""One deadline for many: whatever runs longer than a fixed time is ended, by one timer for all.

`asyncio.timeout` sets and cancels a timer for each request, 6 µs; here a request enters and
leaves a dictionary, 1.5 µs. A deadline may be late by a twentieth of its time, at most by a second.
"""

import asyncio
from types import TracebackType

_TICKS = 20
_TICK_S_MAX = 1.0


class Deadlines:
    """Deadlines of equal length, so that those who began first are over first."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._tick_s = min(after_s / _TICKS, _TICK_S_MAX)
        # In the order in which they began -> when they are over, by the loop's clock.
        self._running: dict[Deadline, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "Deadline":
        """For a `with` in a task, which is ended when the block takes too long.

        Raises, from the block's end:
            TimeoutError: it took too long and was cancelled.
        """
        return Deadline(self)

    def enter(self, deadline: "Deadline") -> None:
        loop = asyncio.get_running_loop()
        self._running[deadline] = loop.time() + self.after_s
        if self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._tick)

    def leave(self, deadline: "Deadline") -> None:
        self._running.pop(deadline, None)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        over = []
        for deadline, at in self._running.items():
            if at > now:
                break
            over.append(deadline)
        for deadline in over:
            del self._running[deadline]
            deadline.expire()
        self._timer = loop.call_later(self._tick_s, self._tick) if self._running else None


class Deadline:
    """One block under a deadline."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.enter(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.leave(self)
        # As asyncio.timeout does: a cancel that came from elsewhere too stays a cancel.
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and exc_type is asyncio.CancelledError
        ):
            raise TimeoutError from exc

    def expire(self) -> None:
        """Cancels the block's task."""
        self._expired = True
        self._task.cancel()
