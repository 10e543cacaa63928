"""From a mail's id to a mail in somebody's mailbox, or in the operator's hands.

A mail leaves the outbox only after the server has taken it. If we die between its answer and our
note, the mail goes out once more under the same Message-ID (docs/decisions/0010).
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from waitlist.errors import NotFound, PlaceGone, WaitlistError
from waitlist.invites.codes import invite_id_of
from waitlist.line.entries import Entries, LineRules
from waitlist.mail.messages import Message, confirm_message, invite_message
from waitlist.mail.outbox import Outbox
from waitlist.mail.smtp import MAIL_TRY_S_MAX, MailDelayed, MailRefused, SmtpMailer
from waitlist.proofs import tokens
from waitlist.proofs.tickets import TicketSigner
from waitlist.storage.acting_ledger import ActingLedger, moment
from waitlist.storage.records import Entry

log = structlog.get_logger(__name__)

# 1, 2, 4 … minutes, then every four hours: two days altogether.
_RETRY_S_FIRST = 60.0
_RETRY_S_MAX = 4 * 3600.0
_TRIES_MAX: Final = 18
_NO_SERVER: Final = "no mail server is set up"


class SecretChanged(WaitlistError):
    """A code can be made again by the secret alone under which its place was let in."""

    status_code = 409
    code = "secret_changed"

    def __init__(self) -> None:
        super().__init__(
            "The code of this place was made with another secret.",
            hint="Go back to the FLOODGATE_WAITLIST_SECRET of that time, or let the place expire.",
        )


class Delivery:
    def __init__(
        self,
        ledger: ActingLedger,
        entries: Entries,
        signer: TicketSigner,
        rules: LineRules,
        *,
        mailer: SmtpMailer | None,
        public_url: str,
    ) -> None:
        self._ledger = ledger
        self._outbox = Outbox(ledger)
        self._entries = entries
        self._signer = signer
        self._rules = rules
        self._mailer = mailer
        self._public_url = public_url.rstrip("/")

    async def deliver_due(self) -> int:
        """Tries each mail that is due once, and returns how many those were."""
        claimed = await self._outbox.claim()
        await asyncio.gather(*(self._deliver(mail_id, tries) for mail_id, tries in claimed))
        return len(claimed)

    async def show(self, mail_id: str) -> tuple[str, Message]:
        """Address and text of a mail, for an operator who delivers it by hand.

        Raises:
            NotFound: nobody wants it any longer.
            SecretChanged.
        """
        entry, message = await self._render(mail_id)
        if entry is None or entry.email is None or message is None:
            raise NotFound("mail")
        return entry.email, message

    async def _deliver(self, mail_id: str, tries: int) -> None:
        try:
            entry, message = await self._render(mail_id)
        except SecretChanged as error:
            await self._give_up(mail_id, error.message)
            return
        if entry is None or entry.email is None or message is None or entry.mute:
            await self._outbox.sent(mail_id)  # erased, expired, or the mailbox had its share
            return
        if self._mailer is None:
            await self._outbox.hold(mail_id, _NO_SERVER)
            # The text has a code in it, so the log shows where to read it and not what it says.
            log.info(
                "mail_to_deliver",
                mail_id=mail_id,
                subject=message.subject,
                show=f"floodgate waitlist mail show {mail_id}",
            )
            return
        try:
            async with asyncio.timeout(MAIL_TRY_S_MAX):
                await self._mailer.send(
                    entry.email,
                    message,
                    mail_tag=self._signer.mail_tag(mail_id),
                    at=moment(self._ledger.now_ms()),
                )
        except MailRefused as error:
            await self._give_up(mail_id, str(error))
        except (MailDelayed, TimeoutError) as error:
            reason = str(error) or "the mail server was too slow"
            if tries >= _TRIES_MAX:
                await self._give_up(mail_id, reason)
                return
            log.warning("mail_delayed", mail_id=mail_id, tries=tries, reason=reason)
            await self._outbox.retry(mail_id, retry_in_s(tries), reason)
        except Exception as error:
            # A fault of ours in one mail must not keep the others; its text may hold the address.
            await self._give_up(mail_id, f"it could not be made ({type(error).__name__})")
        else:
            log.info("mail_sent", mail_id=mail_id, tries=tries)
            await self._outbox.sent(mail_id)

    async def _give_up(self, mail_id: str, reason: str) -> None:
        log.warning("mail_held", mail_id=mail_id, reason=reason)
        await self._outbox.hold(mail_id, reason)

    async def _render(self, mail_id: str) -> tuple[Entry | None, Message | None]:
        """The entry and the text as they are now; no text where the mail is no longer true."""
        kind, _, entry_id = mail_id.partition(":")
        try:
            entry = await self._entries.read(entry_id)
        except PlaceGone:
            return None, None
        if kind == "confirm" and entry.state == "pending":
            until = entry.joined_at + timedelta(seconds=self._rules.confirm_life_s)
            ticket = self._signer.owner_ticket(entry_id)
            return entry, confirm_message(self._public_url, ticket, until, entry.locale)
        if kind == "invite" and entry.state == "invited" and entry.batch_id:
            code = self._signer.code(entry_id, entry.batch_id)
            if invite_id_of(tokens.digest(code)) != entry.invite_id:
                raise SecretChanged
            until_or_none: datetime | None = entry.invite_expires_at
            return entry, invite_message(self._public_url, code, until_or_none, entry.locale)
        return entry, None


def retry_in_s(tries: int) -> float:
    """How long to wait after so many tries."""
    return min(_RETRY_S_FIRST * 2.0 ** (tries - 1), _RETRY_S_MAX)
