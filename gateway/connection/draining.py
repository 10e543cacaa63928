"""What a worker does from the moment at which it is told to stop.

uvicorn tells the application only after its connections have ended, which is too late for callers
who wait in line. So its signal handler is wrapped: those callers are told first.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

# Before its SIGTERM, a worker that is replaced gets this one: its answers may run to their end.
REPLACED_SIGNAL = signal.SIGUSR1


def when_told_to_stop(drain: Callable[[], None], *, replaced_drain_s_max: int) -> None:
    """Calls `drain` in the running loop as soon as SIGTERM or SIGINT comes.

    Does nothing where no uvicorn server has taken the signals, as under other servers.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGTERM)
    server = getattr(handler, "__self__", None)
    if not callable(handler) or not isinstance(server, uvicorn.Server):
        return
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain)
        handler(number, frame)

    def be_replaced(number: int, frame: FrameType | None) -> None:
        server.config.timeout_graceful_shutdown = replaced_drain_s_max

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(REPLACED_SIGNAL, be_replaced)
