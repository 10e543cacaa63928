"""The loops beside the requests: one that ends by itself ends the worker.

A gateway whose lines nobody serves, or whose records nobody reads, would go on and answer that it
is ready. The supervisor puts another worker in its place, and the log says why.
"""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

Loop = asyncio.Task[None]

# Far longer than any loop takes to end: each call to Redis has a deadline of 250 ms.
_CANCEL_AGAIN_S = 2.0


def start_loop(name: str, work: Coroutine[Any, Any, None]) -> Loop:
    """Runs it until it is stopped."""
    loop = asyncio.create_task(work, name=name)
    loop.add_done_callback(_end_the_worker)
    return loop


async def stop_loop(loop: Loop) -> None:
    """Cancels it and waits for its end.

    And again, should it go on: where a connection breaks at that moment, closing it fails, and that
    failure takes the cancellation's place.
    """
    loop.remove_done_callback(_end_the_worker)
    while not loop.done():
        loop.cancel()
        await asyncio.wait((loop,), timeout=_CANCEL_AGAIN_S)
    if not loop.cancelled():
        loop.exception()  # else asyncio reports that nobody has looked


def _end_the_worker(loop: Loop) -> None:
    error = None if loop.cancelled() else loop.exception()
    log.error("loop_ended", loop=loop.get_name(), exc_info=error)
    # As the supervisor does it: what is under way is finished within the worker's drain.
    os.kill(os.getpid(), signal.SIGTERM)
