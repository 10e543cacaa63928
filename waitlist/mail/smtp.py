"""Mail through an SMTP server. The one module that imports aiosmtplib."""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

import aiosmtplib

from waitlist.mail.messages import Message

_PORTS = {"smtp": 587, "smtps": 465}
# Whole try: connecting, TLS, login and the message. The outbox's lease is longer.
MAIL_TRY_S_MAX = 30.0


class MailError(Exception):
    """Why a mail did not go out. Never holds an address."""


class MailRefused(MailError):
    """The server will not take this mail, today or tomorrow."""


class MailDelayed(MailError):
    """The server is gone, slow, or asks to come back later."""


class SmtpMailer:
    """One connection a mail: at some mails a second nothing is won by keeping it."""

    def __init__(self, url: str, sender: str) -> None:
        """`url` is smtp://user:password@host:587 (TLS where the server offers it, always with a
        password except on loopback) or smtps://….

        Raises:
            ValueError: the URL or the sender cannot be used; the text quotes neither.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("FLOODGATE_SMTP_URL must look like smtp://user:password@host:587")
        self._name, self._sender = parseaddr(sender)
        if "@" not in self._sender:
            raise ValueError("FLOODGATE_MAIL_FROM must look like Floodgate <floodgate@example.com>")
        self._hostname = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self._username = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._use_tls = parts.scheme == "smtps"
        # None: where the server offers it.
        self._start_tls = True if self._password and not _is_loopback(parts.hostname) else None

    async def send(self, to: str, message: Message, *, mail_tag: str, at: datetime) -> None:
        """Returns once the server has taken the mail; its Message-ID is made from `mail_tag`.

        Raises:
            MailRefused, MailDelayed.
        """
        to = _plain(to)
        mail = self._compose(to, message, mail_tag=mail_tag, at=at)
        try:
            await aiosmtplib.send(
                mail,
                sender=self._sender,
                recipients=[to],
                hostname=self._hostname,
                port=self._port,
                username=self._username,
                password=self._password,
                timeout=MAIL_TRY_S_MAX,
                use_tls=self._use_tls,
                start_tls=None if self._use_tls else self._start_tls,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            permanent = all(500 <= refusal.code < 600 for refusal in error.recipients)
            codes = ", ".join(str(refusal.code) for refusal in error.recipients)
            text = f"the mail server refused the recipient ({codes})"
            raise (MailRefused if permanent else MailDelayed)(text) from None
        except aiosmtplib.SMTPAuthenticationError as error:
            raise MailDelayed(f"the mail server refused our login ({error.code})") from None
        except aiosmtplib.SMTPNotSupported as error:
            raise MailRefused(f"the mail server cannot take this: {error}") from None
        except aiosmtplib.SMTPResponseException as error:
            # Its text may quote the address.
            text = f"the mail server answered {error.code}"
            raise (MailRefused if 500 <= error.code < 600 else MailDelayed)(text) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailDelayed(
                f"the mail server cannot be reached ({type(error).__name__})"
            ) from None

    def _compose(self, to: str, message: Message, *, mail_tag: str, at: datetime) -> EmailMessage:
        # Names beyond ASCII need a server with SMTPUTF8; domains beyond ASCII have a plain form.
        mail = EmailMessage(policy=SMTP if to.isascii() else SMTPUTF8)
        mail["From"] = Address(self._name, addr_spec=self._sender)
        mail["To"] = to
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(at)
        # The same at each try: where a crash makes us send twice, mailboxes show it once.
        mail["Message-ID"] = f"<{mail_tag}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.body)
        return mail


def _plain(address: str) -> str:
    """The address with its domain in ASCII, where its name is ASCII too."""
    name, _, domain = address.rpartition("@")
    if not name.isascii() or domain.isascii():
        return address
    return f"{name}@{domain.encode('idna').decode('ascii')}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
