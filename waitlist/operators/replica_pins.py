"""How many replicas operators want of a model, whatever its line asks for.

A pin is one of the settings that change while everything runs, so it stands in the ledger. The
gateway tells serving of it, by way of the flow Redis.
"""

from typing import Final

from waitlist.errors import RequestMalformed
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.terms import check_note

REPLICAS_MAX: Final = 256


class ReplicaPins:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def all(self) -> dict[str, int]:
        """Model -> replicas."""
        found = await self._ledger.run("read_pins", [redis_keys.REPLICA_PINS], [])
        return {found[i]: int(found[i + 1]) for i in range(0, len(found), 2)}

    async def set(self, model: str, replicas: int | None) -> bool:
        """Pins a model, or with None leaves it to its line again; False where it was so already.

        Raises RequestMalformed where the model's name or the number cannot be.
        """
        if not model:
            raise RequestMalformed("A pin needs a model's name.", param="model")
        check_note(model)
        if replicas is not None and not 0 <= replicas <= REPLICAS_MAX:
            raise RequestMalformed(f"replicas must be from 0 to {REPLICAS_MAX}.", param="replicas")
        changed = await self._ledger.run(
            "set_pin",
            [redis_keys.REPLICA_PINS, redis_keys.AUDIT, redis_keys.new_mark()],
            [
                *(self._ledger.now_ms(), self._ledger.actor, model),
                *("" if replicas is None else replicas, redis_keys.MARK_LIFE_MS),
            ],
        )
        return bool(changed)
