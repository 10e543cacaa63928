"""The waitlist's settings: defaults, bounds, and that faults quote no secret."""

import pytest
from pydantic import ValidationError

from waitlist.mail.smtp import SmtpMailer
from waitlist.settings import WaitlistSettings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("FLOODGATE_"):
            monkeypatch.delenv(name)


def test_defaults_are_a_gate_without_a_line() -> None:
    settings = WaitlistSettings()
    assert settings.waitlist_secret.get_secret_value() == ""
    assert settings.mailer() is None
    assert not settings.rules().confirm_by_mail


def test_mail_server_makes_confirmation_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOODGATE_SMTP_URL", "smtp://user:p%40ss@mail.example:587")
    settings = WaitlistSettings()
    assert isinstance(settings.mailer(), SmtpMailer)
    assert settings.rules().confirm_by_mail


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("WAITLIST_SECRET", "hunter2", "at least 32 characters"),
        ("SMTP_URL", "http://user:hunter2@mail.example", "smtp://"),
        ("SMTP_URL", "smtp://", "smtp://"),
        ("PUBLIC_URL", "gate.example", "https://"),
        ("REFERRALS_MAX", "-1", "greater than or equal to 0"),
        ("JOINS_PER_NETWORK_HOUR", "0", "greater than or equal to 1"),
        ("CONFIRM_LIFE_S", "0", "greater than 0"),
    ],
)
def test_wrong_values_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.setenv(f"FLOODGATE_{name}", text)
    with pytest.raises(ValidationError) as refusal:
        WaitlistSettings()
    told = "; ".join(error["msg"] for error in refusal.value.errors(include_input=False))
    assert said in told
    assert "hunter2" not in told


def test_wrong_sender_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOODGATE_SMTP_URL", "smtp://mail.example")
    monkeypatch.setenv("FLOODGATE_MAIL_FROM", "nobody")
    with pytest.raises(ValidationError, match="FLOODGATE_MAIL_FROM"):
        WaitlistSettings()
