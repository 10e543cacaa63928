"""Commands on invites and keys: the waitlist's directory, on the Redis servers that are meant.

The one module of this package that imports waitlist.
"""

import asyncio
import getpass
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from deploy.errors import NotRunning, Refused
from deploy.home import Home
from deploy.run_state import read_state
from waitlist.directory import Directory, open_directory
from waitlist.errors import WaitlistError

_Result = TypeVar("_Result")


def redis_urls(home: Home) -> tuple[str, str]:
    """URLs of ledger and flow: from the environment, else of what runs in `home`.

    Raises:
        NotRunning: neither is there.
    """
    state = read_state(home)
    ledger = os.environ.get("FLOODGATE_LEDGER_URL") or (state.ledger_url if state else "")
    flow = os.environ.get("FLOODGATE_FLOW_URL") or (state.flow_url if state else "")
    if not ledger or not flow:
        raise NotRunning(
            f"Floodgate does not run in {home.root}.",
            "Start it with `floodgate up`, or set FLOODGATE_LEDGER_URL and FLOODGATE_FLOW_URL.",
        )
    return ledger, flow


def with_directory(
    urls: tuple[str, str], work: Callable[[Directory], Awaitable[_Result]], *, actor: str = ""
) -> _Result:
    """Opens the directory on ledger and flow, awaits `work` on it and closes it.

    Raises:
        Refused: whatever the waitlist says, in its words.
    """

    async def run() -> _Result:
        who = actor or f"cli:{_user_name()}"
        async with open_directory(*urls, actor=who, clock=time.time) as directory:
            return await work(directory)

    try:
        return asyncio.run(run())
    except WaitlistError as error:
        raise Refused(error.message, error.hint) from error
    except ValueError as error:
        raise Refused(
            f"A Redis URL cannot be used: {error}.", "redis://:PASSWORD@HOST:PORT/0"
        ) from error


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
