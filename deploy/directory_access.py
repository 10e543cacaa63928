"""The waitlist's directory for commands, on the Redis servers that are meant."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from deploy.errors import NotRunning, Refused
from deploy.home import Home
from deploy.ledger_access import COMMAND_DEADLINE_S, user_name
from deploy.run_state import read_state
from deploy.settings import LaunchSettings, read_settings
from deploy.waitlist_secret import read_waitlist_secret
from waitlist.directory import Directory, open_directory
from waitlist.errors import WaitlistError
from waitlist.settings import WaitlistSettings

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


def waitlist_settings(home: Home) -> WaitlistSettings:
    """The waitlist's settings: from the environment, else the secret and the URL of `home`.

    Raises Refused.
    """
    given = {}
    if not os.environ.get("FLOODGATE_WAITLIST_SECRET") and (secret := read_waitlist_secret(home)):
        given["waitlist_secret"] = secret
    state = read_state(home)
    if not os.environ.get("FLOODGATE_PUBLIC_URL") and state and state.url:
        given["public_url"] = state.url
    return read_settings(WaitlistSettings, **given)


def on_waitlist(work: Callable[[Directory], Awaitable[_Result]]) -> _Result:
    """Awaits `work` on the directory of this FLOODGATE_HOME, line and all.

    Raises:
        NotRunning, Refused.
    """
    home = read_settings(LaunchSettings).folders()
    return with_directory(redis_urls(home), work, settings=waitlist_settings(home))


def with_directory(
    urls: tuple[str, str],
    work: Callable[[Directory], Awaitable[_Result]],
    *,
    actor: str = "",
    settings: WaitlistSettings | None = None,
) -> _Result:
    """Opens the directory on ledger and flow, awaits `work` on it and closes it.

    Raises:
        Refused: whatever the waitlist says, in its words.
    """

    async def run() -> _Result:
        who = actor or f"cli:{user_name()}"
        async with open_directory(
            *urls, actor=who, clock=time.time, deadline_s=COMMAND_DEADLINE_S, settings=settings
        ) as directory:
            return await work(directory)

    try:
        return asyncio.run(run())
    except WaitlistError as error:
        raise Refused(error.message, error.hint) from error
    except ValueError as error:
        raise Refused(
            f"A Redis URL cannot be used: {error}.", "redis://:PASSWORD@HOST:PORT/0"
        ) from error
