"""Loops beside the requests: what the end of one means."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.app.loops import start_loop, stop_loop


@pytest.fixture
async def told_to_stop() -> AsyncIterator[asyncio.Event]:
    """Set when this process gets the signal by which a worker ends."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    yield told
    loop.remove_signal_handler(signal.SIGTERM)


async def fail() -> None:
    raise KeyError("a mistake of ours")


async def return_early() -> None:
    return


@pytest.mark.parametrize("work", [fail, return_early])
async def test_one_that_ends_by_itself_ends_the_worker(
    told_to_stop: asyncio.Event,
    work: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    with capture_logs() as logs:
        start_loop("lines", work())
        await told_to_stop.wait()
    assert [(each["event"], each["loop"]) for each in logs] == [("loop_ended", "lines")]


async def test_one_that_is_stopped_does_not(told_to_stop: asyncio.Event) -> None:
    loop = start_loop("lines", asyncio.sleep(3600))
    await asyncio.sleep(0)
    await stop_loop(loop)
    await asyncio.sleep(0)
    assert loop.cancelled()
    assert not told_to_stop.is_set()


async def test_one_whose_cancellation_is_lost_is_told_again(
    told_to_stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where closing a broken connection fails, and the failure is waited out."""

    async def lose_the_first() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    monkeypatch.setattr("gateway.app.loops._CANCEL_AGAIN_S", 0.01)
    loop = start_loop("lines", lose_the_first())
    await asyncio.sleep(0)
    await asyncio.wait_for(stop_loop(loop), 30)
    assert loop.cancelled()
    assert not told_to_stop.is_set()
