"""How fast a replica works and how long one takes to start, from the records of all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Records come once a second; over five the steps of a batch even out.
_WINDOW_S = 5.0
# Tokens/s say what a replica can do only while it is about full.
_FULL_SHARE = 0.8
_NEWEST_SHARE = 0.3
# Until a start has been seen: a small model on two cores takes 55 s, a large one on a GPU more.
_START_S_ASSUMED = 60.0


class ReplicaPace:
    def __init__(self) -> None:
        self.slots: int | None = None
        self.tokens_per_s: float | None = None
        self.start_s = _START_S_ASSUMED
        self._starting_since: dict[str, float] = {}
        self._began: dict[str, tuple[float, int]] = {}  # replica -> since when it is full, tokens

    def look(self, records: Sequence[Mapping[str, Any]], now: float) -> None:
        """Notes one look at the replicas' records. `now`: seconds of a monotonic clock."""
        states = {str(record["replica_id"]): record["state"] for record in records}
        for replica_id, state in states.items():
            if state == "starting":
                self._starting_since.setdefault(replica_id, now)
            elif since := self._starting_since.pop(replica_id, None):
                self.start_s = now - since
        for gone in (self._starting_since.keys() | self._began.keys()) - states.keys():
            self._starting_since.pop(gone, None)
            self._began.pop(gone, None)
        for record in records:
            if record["state"] == "running":
                self.slots = max(1, int(record["slots"]))
                self._measure(record, now)

    def _measure(self, record: Mapping[str, Any], now: float) -> None:
        replica_id, engine = str(record["replica_id"]), record["engine"]
        tokens = int(engine["generation_tokens"]) + int(engine["prompt_tokens"])
        if int(engine["running"]) < _FULL_SHARE * int(record["slots"]):
            self._began.pop(replica_id, None)
            return
        since, tokens_then = self._began.setdefault(replica_id, (now, tokens))
        if now - since < _WINDOW_S:
            return
        found = (tokens - tokens_then) / (now - since)
        before = self.tokens_per_s
        self.tokens_per_s = found if before is None else before + _NEWEST_SHARE * (found - before)
        self._began[replica_id] = (now, tokens)
