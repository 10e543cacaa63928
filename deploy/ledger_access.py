"""Commands on the ledger as a whole: opened for any schema, the waitlist's words as ours."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from deploy.errors import NotRunning, Refused
from deploy.home import Home
from deploy.run_state import read_state
from waitlist.errors import WaitlistError
from waitlist.storage.ledger import Ledger

_Result = TypeVar("_Result")
# Scripts take milliseconds; a busy disk may hold one write for longer than the gateway's callers
# would wait, and a command has nobody else to serve.
COMMAND_DEADLINE_S = 30.0


def ledger_url(home: Home) -> str:
    """The ledger's URL: from the environment, else of what runs in `home`.

    Raises:
        NotRunning: neither is there.
    """
    state = read_state(home)
    url = os.environ.get("FLOODGATE_LEDGER_URL") or (state.ledger_url if state else "")
    if not url:
        raise NotRunning(
            f"Floodgate does not run in {home.root}.",
            "Start it with `floodgate up`, or set FLOODGATE_LEDGER_URL.",
        )
    return url


def with_ledger(
    url: str, work: Callable[[Ledger], Awaitable[_Result]], *, any_schema: bool = False
) -> _Result:
    """Opens the ledger, awaits `work` on it and closes it. Raises Refused."""

    async def run() -> _Result:
        ledger = Ledger(url, deadline_s=COMMAND_DEADLINE_S, any_schema=any_schema)
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return in_our_words(run())


def in_our_words(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs it; what the waitlist raises becomes Refused."""
    try:
        return asyncio.run(work)
    except WaitlistError as error:
        raise Refused(error.message, error.hint) from error


def user_name() -> str:
    """Who runs this command, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
