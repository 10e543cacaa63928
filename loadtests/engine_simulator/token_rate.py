"""Tokens a second of the last seconds, as a replica's record has them. Pure."""

from collections import deque

# As the documented format has it.
WINDOW_S = 5.0


class TokenRate:
    """Fed with an engine's counter, once for each record."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()

    def over_window(self, generated: int, now_s: float) -> float:
        """Tokens/s on the wall clock since the oldest count of the window; 0 at the first."""
        self._counts.append((now_s, generated))
        while self._counts[0][0] < now_s - WINDOW_S:
            self._counts.popleft()
        since_s, before = self._counts[0]
        return (generated - before) / (now_s - since_s) if since_s < now_s else 0.0
