"""A real SMTP server for tests, on a loopback port, that does on command what servers do."""

import asyncio
import email
import email.policy
import threading
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.free_ports import free_port

_STOP_S_MAX = 10.0


class MailServer:
    """Takes mails and keeps them.

    `answers` are given to the next recipients, one each. While `hold` is set, mails that have
    arrived get no answer; `held` counts them.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answers: list[str] = []
        self.hold = threading.Event()
        self.held = 0
        self._arrived = threading.Condition()
        self._controller: Controller | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._port}"

    def to(self, address: str) -> list[EmailMessage]:
        with self._arrived:
            pairs = zip(self.recipients, self.mails, strict=True)
            return [mail for recipient, mail in pairs if recipient == address]

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self._port, ready_timeout=30)
        if self._port == 0:
            self._controller.port = self._port = free_port()
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            loop = self._controller.loop
            asyncio.run_coroutine_threadsafe(_sessions_ended(), loop).result(_STOP_S_MAX)
            self._controller.stop()
            self._controller = None

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answers:
            answer = self.answers.pop(0)
            if answer:
                return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.hold.is_set():
            self.held += 1
            while self.hold.is_set():
                await asyncio.sleep(0.02)
        content: Any = envelope.content
        mail = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        with self._arrived:
            self.mails.append(mail)
            self.recipients.append(envelope.rcpt_tos[0])
            self._arrived.notify_all()
        return "250 OK"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


async def _sessions_ended() -> None:
    """A session that is cut by the loop's end would complain when it is collected."""
    current = asyncio.current_task()
    while [task for task in asyncio.all_tasks() if task is not current]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # transports close one turn later
