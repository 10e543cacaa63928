"""How many tokens a second an engine generates now, from looks at its counter. Pure."""

from __future__ import annotations

from collections import deque

# A step on a processor takes up to a second, and its tokens are counted at its end: over one
# second the rate would jump between none and twice as many.
_WINDOW_S = 5.0


class TokenRate:
    """Remembers the looks of the last seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, generated: int, *, now: float) -> float:
        """Tokens/s since the oldest look of the last five seconds; 0 at the first.

        `generated` counts since the engine's start. `now`: seconds of a monotonic clock.
        """
        while self._looks and now - self._looks[0][0] > _WINDOW_S:
            self._looks.popleft()
        self._looks.append((now, generated))
        then, before = self._looks[0]
        return (generated - before) / (now - then) if now > then else 0.0
