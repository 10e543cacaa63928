"""The demand record that gateways write once a second: what a model's line asks for. Pure.

Version 1, from gateway/flow/lua/renew_worker.lua:

    {"version": 1, "waiting": 12, "oldest_wait_s": 3.2, "tokens_owed": 5400, "slots_used": 32,
     "held_back": 40}

The first three are of those who wait for a slot. Whom only its own account's concurrency holds
back is counted in `held_back`: more replicas would not help. `tokens_owed` is what those who wait
have reserved, prompt and longest answer. Gateways of an earlier version count all as waiting and
do not write `held_back`. The record lives for five seconds: where it is missing, nobody knows what
is asked for, which is not "nothing".
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Demand:
    """One look at a model's line, over all gateways; `waiting` are those who wait for a slot."""

    waiting: int
    oldest_wait_s: float
    tokens_owed: int
    slots_used: int
    held_back: int = 0


def parse_demand(text: str | bytes | None) -> Demand | None:
    """The demand of a record; None for none, for a broken one and for another version's."""
    try:
        record = json.loads(text or "")
        if record["version"] != _VERSION:
            return None
        return Demand(
            waiting=int(record["waiting"]),
            oldest_wait_s=float(record["oldest_wait_s"]),
            tokens_owed=int(record["tokens_owed"]),
            slots_used=int(record["slots_used"]),
            held_back=int(record.get("held_back", 0)),
        )
    except (ValueError, TypeError, KeyError):
        return None
