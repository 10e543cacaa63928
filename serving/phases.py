"""The steps of a run, told to whoever started it."""

from __future__ import annotations

import time
from collections.abc import Callable

OnPhase = Callable[[str], None]


class Phases:
    """Reports steps with the seconds since the start."""

    def __init__(self, on_phase: OnPhase) -> None:
        self._on_phase = on_phase
        self._started_at = time.monotonic()

    def done(self, step: str) -> None:
        """Tell of one step."""
        self._on_phase(f"{time.monotonic() - self._started_at:5.1f} s  {step}")
