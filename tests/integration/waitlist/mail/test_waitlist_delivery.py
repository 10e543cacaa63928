"""Mails on a real ledger and a real SMTP server: none lost, none twice, none in the log."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from tests.integration.waitlist.conftest import confirmed, join
from tests.mail_server import MailServer
from waitlist.directory import Directory
from waitlist.errors import NotFound
from waitlist.mail.outbox import LEASE_S

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[Directory]]


async def deliver(directory: Directory) -> None:
    while await directory.delivery.deliver_due():
        pass


async def test_confirmation_and_invite_arrive_and_work(
    mailed_line: Directory, mail_server: MailServer
) -> None:
    joined = await join(mailed_line, "ada@example.com")
    await deliver(mailed_line)
    [mail] = mail_server.to("ada@example.com")
    assert mail["From"] == "Gate <gate@gate.example>"
    text = mail.get_content()
    ticket = text.split("https://gate.example/waitlist#ticket=")[1].split()[0]
    entry, _ = await mailed_line.entries.confirm(mailed_line.signer.read(ticket))
    assert entry.entry_id == joined.entry_id
    await mailed_line.releases.release(1)
    await deliver(mailed_line)
    [_, invite] = mail_server.to("ada@example.com")
    code = invite.get_content().split("/redeem#code=")[1].split()[0]
    assert code in invite.get_content().splitlines()
    await mailed_line.redeem(code, "ada@example.com")
    assert await mailed_line.outbox.waiting() == []


async def test_texts_are_chinese_where_that_was_asked_for(
    mailed_line: Directory, mail_server: MailServer
) -> None:
    await join(mailed_line, "li@例子.广告", locale="zh")
    await deliver(mailed_line)
    [mail] = mail_server.to("li@xn--fsqu00a.xn--4rr70v")
    assert mail["Subject"] == "请确认您的排队登记"
    assert "https://gate.example/waitlist#ticket=fgo-" in mail.get_content()


async def test_name_beyond_ascii_gets_its_mail(
    mailed_line: Directory, mail_server: MailServer
) -> None:
    await join(mailed_line, "用户@例子.广告")
    await join(mailed_line, "ada@example.com")
    await deliver(mailed_line)
    assert set(mail_server.recipients) == {"用户@例子.广告", "ada@example.com"}


async def test_many_workers_send_each_mail_once(open_line: Open, mail_server: MailServer) -> None:
    directories = [await open_line(smtp_url=mail_server.url) for _ in range(4)]
    for i in range(60):
        await join(directories[0], f"person{i}@example.com")
    await asyncio.gather(*(deliver(d) for d in directories))
    assert sorted(mail_server.recipients) == sorted(f"person{i}@example.com" for i in range(60))


async def test_server_that_is_gone_delays_mails_and_loses_none(
    mailed_line: Directory, mail_server: MailServer, clock: Any
) -> None:
    mail_server.stop()
    await join(mailed_line, "ada@example.com")
    await deliver(mailed_line)
    [waiting] = await mailed_line.outbox.waiting()
    assert (waiting.tries, waiting.kind) == (1, "confirm")
    assert "cannot be reached" in waiting.reason
    mail_server.start()
    await deliver(mailed_line)
    assert mail_server.mails == []  # not before its time
    clock.advance(60)
    await deliver(mailed_line)
    assert mail_server.recipients == ["ada@example.com"]
    assert await mailed_line.outbox.waiting() == []


async def test_refusal_for_now_is_tried_again_and_one_for_good_is_held(
    mailed_line: Directory, mail_server: MailServer, clock: Any
) -> None:
    mail_server.answers = ["451 come back later", "550 no such mailbox"]
    await join(mailed_line, "ada@example.com")
    await deliver(mailed_line)
    assert len(await mailed_line.outbox.waiting()) == 1
    clock.advance(60)
    await deliver(mailed_line)
    [held] = await mailed_line.outbox.held()
    assert "550" in held.reason
    assert "ada" not in held.reason
    await mailed_line.outbox.requeue(held.mail_id)
    await deliver(mailed_line)
    assert mail_server.recipients == ["ada@example.com"]
    assert await mailed_line.outbox.held() == []
    with pytest.raises(NotFound):
        await mailed_line.outbox.requeue(held.mail_id)


async def test_crash_before_sending_delays_by_a_lease_and_loses_nothing(
    mailed_line: Directory, mail_server: MailServer, clock: Any
) -> None:
    await join(mailed_line, "ada@example.com")
    [(mail_id, tries)] = await mailed_line.outbox.claim()  # and then whoever took it dies
    assert tries == 1
    await deliver(mailed_line)
    assert mail_server.mails == []
    clock.advance(LEASE_S)
    await deliver(mailed_line)
    assert mail_server.recipients == ["ada@example.com"]
    assert mail_id.startswith("confirm:")


async def test_crash_after_sending_repeats_the_mail_under_the_same_id(
    mailed_line: Directory, mail_server: MailServer, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mail server has taken it; we die before we note that. Mailboxes show it once."""
    await join(mailed_line, "ada@example.com")

    async def die(mail_id: str) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(mailed_line.delivery._outbox, "sent", die)
        with pytest.raises(asyncio.CancelledError):
            await deliver(mailed_line)
    clock.advance(LEASE_S)
    await deliver(mailed_line)
    await deliver(mailed_line)
    assert len({mail["Message-ID"] for mail in mail_server.mails}) == 1
    assert len(mail_server.mails) == 2


async def test_mail_that_nobody_wants_any_longer_is_dropped(
    mailed_line: Directory, mail_server: MailServer
) -> None:
    joined = await join(mailed_line, "ada@example.com")
    await mailed_line.departures.leave(mailed_line.signer.read(joined.ticket))
    await deliver(mailed_line)
    assert mail_server.mails == []
    assert await mailed_line.outbox.waiting() == []


async def test_mailbox_gets_its_share_and_no_more_while_joins_look_the_same(
    mailed_line: Directory, mail_server: MailServer
) -> None:
    spellings = ["ada@gmail.com", "a.da@gmail.com", "ada+x@gmail.com", "ADA@googlemail.com"]
    joined = [await join(mailed_line, spelling) for spelling in spellings * 2]
    await deliver(mailed_line)
    assert len(mail_server.mails) == 3
    assert len({(each.confirmed, len(each.ticket)) for each in joined}) == 1
    assert await mailed_line.outbox.waiting() == []


async def test_without_a_server_mails_wait_for_the_operator_and_the_log_tells_no_secret(
    line: Directory, ledger_state: Any
) -> None:
    joined = await join(line, "ada@example.com")
    batch = await line.releases.release(1)
    code = line.signer.code(joined.entry_id, batch.batch_id)
    with structlog.testing.capture_logs() as logs:
        await deliver(line)
    [logged] = [entry for entry in logs if entry["event"] == "mail_to_deliver"]
    assert logged["mail_id"] == f"invite:{joined.entry_id}"
    assert code not in str(logs)
    assert "ada@" not in str(logs)
    [held] = await line.outbox.held()
    email, message = await line.delivery.show(held.mail_id)
    assert email == "ada@example.com"
    assert code in message.body
    await line.outbox.delivered(held.mail_id)
    assert await line.outbox.held() == []
    assert code.removeprefix("fgi-") not in ledger_state.everything_as_text()


async def test_addresses_and_links_stay_out_of_the_log(
    mailed_line: Directory, mail_server: MailServer
) -> None:
    mail_server.answers = ["451 ada@example.com is greylisted", "550 ada@example.com is unknown"]
    with structlog.testing.capture_logs() as logs:
        for name in ("ada", "bob", "cyd"):
            await confirmed(mailed_line, f"{name}@example.com")
            await join(mailed_line, f"{name}@example.com")
        await deliver(mailed_line)
    assert {entry["event"] for entry in logs} == {"mail_delayed", "mail_held", "mail_sent"}
    assert "@" not in str(logs)
    assert "fgo-" not in str(logs)


async def test_invite_of_another_secret_is_held_and_says_so(
    line: Directory, open_line: Open, mail_server: MailServer
) -> None:
    joined = await join(line, "ada@example.com")
    await line.releases.release(1)
    other = await open_line(
        waitlist_secret="another secret, and long enough as well", smtp_url=mail_server.url
    )
    await deliver(other)
    assert mail_server.mails == []
    [held] = await other.outbox.held()
    assert "another secret" in held.reason
    entry = await other.entries.read(joined.entry_id)
    assert (await open_line(waitlist_secret="z" * 32)).shown_code(entry) is None
    assert line.shown_code(entry) is not None
