"""Operators' pins of replicas, told to serving once a second.

They stand in the ledger; serving reads them on the flow Redis, which may lose them at any time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis

log = structlog.get_logger(__name__)

_PERIOD_S = 1.0


class PinsUnknown(Exception):
    """The ledger does not say; what serving was told last holds."""


ReadPins = Callable[[], Awaitable[Mapping[str, int]]]
"""Model -> replicas. Raises PinsUnknown."""


async def tell_pins(flow: FlowRedis, read_pins: ReadPins) -> None:
    """Until cancelled."""
    while True:
        try:
            pins = await read_pins()
            args = [value for pin in pins.items() for value in pin]
            await flow.run("write_pins", (redis_keys.PINS,), args)
        except (FlowUnavailable, PinsUnknown) as error:
            log.debug("pins_not_told", error=str(error))
        await asyncio.sleep(_PERIOD_S)
