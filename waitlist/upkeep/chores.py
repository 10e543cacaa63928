"""What has to be done whether or not anybody calls: mails, expiry, schedules, open batches.

Every gateway worker does it. Each step is one script or is taken under a lease, so two at once do
nothing twice, and work that one leaves behind is gone on with by another.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from waitlist.directory import Directory
from waitlist.errors import WaitlistError

log = structlog.get_logger(__name__)

# A person who has just joined looks into the mailbox at once.
_MAIL_ROUND_S = 1.0
# Nobody notices whether an invite ends or a batch begins some seconds later.
_LINE_ROUND_S = 5.0


async def deliver_mails(directory: Directory) -> None:
    """Sends what is due, until cancelled."""
    await _for_ever("mails", _MAIL_ROUND_S, directory.delivery.deliver_due)


async def keep_line(directory: Directory) -> None:
    """Ends what has expired and works off batches, until cancelled."""

    async def one_round() -> int:
        return await work_on_line(directory)

    await _for_ever("line", _LINE_ROUND_S, one_round)


async def work_on_line(directory: Directory) -> int:
    """One round: a page of expiries, one schedule, every open batch. How much was done."""
    done = await directory.departures.expire()
    if await directory.schedules.open_due_batch() is not None:
        done += 1
    for batch_id in await directory.releases.open_batches():
        await directory.releases.work_off(batch_id)
    return done


async def _for_ever(what: str, pause_s: float, one_round: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            while await one_round():  # more may be due than one round takes
                pass
        except WaitlistError as error:
            log.warning("chore_delayed", chore=what, error=str(error))
        except Exception:
            # A fault in one mail or batch must not end the others' for good.
            log.exception("chore_failed", chore=what)
        await asyncio.sleep(pause_s)
