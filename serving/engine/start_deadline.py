"""Ends a replica that hangs as it starts, so that Ray starts another.

A replacement, one more for a long line, or any on a Ray cluster: nobody waits for these as
StartWatch waits for what was deployed. Ray only warns of a slow start, and vLLM waits for its
engine's processes without limit.
"""

from __future__ import annotations

import logging
import os
import threading

from serving.processes import kill_family

_log = logging.getLogger("ray.serve")


class StartDeadline:
    """From now on for `seconds`; past them this process and all that it started are killed.

    Looked after by a thread: a start may hold up the event loop for as long as it takes.
    """

    def __init__(self, model: str, seconds: float) -> None:
        self._model = model
        self._seconds = seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.name = "start deadline"
        self._timer.daemon = True
        self._timer.start()

    def met(self) -> None:
        """It has started."""
        self._timer.cancel()

    def _end(self) -> None:
        _log.error(
            "%s: this replica was not ready within %g s (FLOODGATE_START_S_MAX) and is killed",
            self._model,
            self._seconds,
        )
        kill_family(os.getpid())
