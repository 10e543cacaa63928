"""What mails say, and that their secrets show in no repr."""

from datetime import UTC, datetime
from itertools import product

import pytest

from waitlist.line.join_request import LOCALES
from waitlist.mail.messages import confirm_message, invite_message

UNTIL = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("locale", LOCALES)
def test_messages_hold_what_is_needed(locale: str) -> None:
    confirm = confirm_message("https://gate.example", "fgo-ticket", UNTIL, locale)
    assert "\nhttps://gate.example/waitlist#ticket=fgo-ticket\n" in confirm.body
    invite = invite_message("https://gate.example/", "fgi-CODE", UNTIL, locale)
    assert "\nfgi-CODE\n" in invite.body
    assert "\nhttps://gate.example/redeem#code=fgi-CODE\n" in invite.body
    for message in (confirm, invite):
        assert "2026-12-01 09:30 UTC" in message.body
        assert "{" not in message.body
        assert "fg" not in repr(message)


def test_locales_differ() -> None:
    subjects = {
        make("https://gate.example", "x", UNTIL, locale).subject
        for make, locale in product((confirm_message, invite_message), LOCALES)
    }
    assert len(subjects) == 4
