"""Which replicas have fallen silent, though nobody has ended them. Pure.

A replica process that was stopped, or that hangs as a whole, can neither act by itself nor answer
Ray, whose health check takes half a minute to give up; its record is gone within five seconds.
"""

from __future__ import annotations

from collections.abc import Collection

# A record lives for 5 s; a process that is starved of its processor for 10 more serves nobody.
SILENT_S_MAX = 15.0


class SilenceWatch:
    def __init__(self) -> None:
        self._heard_at: dict[int, float] = {}

    def look(self, ports: Collection[int], now: float) -> set[int]:
        """Notes the ports of all replicas that publish themselves; those that have fallen silent.

        Each is told once. `now`: seconds of a monotonic clock. Not to be called while the records
        cannot be read.
        """
        self._heard_at |= dict.fromkeys(ports, now)
        silent = {port for port, at in self._heard_at.items() if now - at > SILENT_S_MAX}
        for port in silent:
            del self._heard_at[port]
        return silent
