"""Whether an engine stands still while it has work. Pure.

Ray's health check asks the process that holds the engine, which answers while the engine itself is
stopped (SIGSTOP, a deadlock, a device that does not return). What tells is that nothing moves:
no token, no prompt block, no preemption, though requests are unfinished.
"""

from __future__ import annotations

from serving.flow.record import EngineLoad


class HangWatch:
    def __init__(self, hang_s_max: float) -> None:
        self._hang_s_max = hang_s_max
        self._seen: tuple[int, int, float, int] | None = None
        self._moved_at = float("-inf")

    def look(self, load: EngineLoad, *, unfinished: int, now: float) -> bool:
        """Notes one look; True once nothing has moved for too long.

        `unfinished`: requests that the engine has taken and not ended, as its client counts them:
        vLLM's own gauges stand still with the engine. `now`: seconds of a monotonic clock.
        """
        seen = (load.generation_tokens, load.prompt_tokens, load.kv_use, load.preemptions)
        if not unfinished or seen != self._seen:
            self._seen = seen
            self._moved_at = now
        return now - self._moved_at > self._hang_s_max
