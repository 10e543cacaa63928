"""Which e-mail addresses are taken, and which count as the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.errors import EmailDisposable, EmailMalformed
from waitlist.proofs.addresses import email_digest, mailbox, normalise_email, refuse_disposable


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  ada@example.com\n", "ada@example.com"),
        ("Ada@EXAMPLE.com", "Ada@example.com"),
        ("ada+floodgate@example.com", "ada+floodgate@example.com"),
        ("用户@例子.广告", "用户@例子.广告"),
        ("ada@xn--fsqu00a.xn--0zwm56d", "ada@例子.测试"),
        ("jose\u0301@example.com", "jos\u00e9@example.com"),
    ],
)
def test_addresses_that_are_taken(text: str, address: str) -> None:
    assert normalise_email(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@localhost",
        "ada@nowhere.invalid",
        "ada@exa mple.com",
        "ada@example..com",
        "ada.@example.com",
        "ada@-example.com",
        "ada@[127.0.0.1]",
        "Ada <ada@example.com>",
        "ada@example.com,eve@example.com",
        "ada@example.com\nBcc: eve@example.com",
        "ada\x00@example.com",
        "a" * 65 + "@example.com",
        "ada@" + "a" * 250 + ".com",
        "a" * 10_000,
        "\ud800@example.com",
    ],
)
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(EmailMalformed) as raised:
        normalise_email(text)
    assert raised.value.status_code == 400
    assert raised.value.param == "email"
    assert raised.value.message.startswith("This is not a usable e-mail address: ")


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_told_why_not(text: str) -> None:
    try:
        address = normalise_email(text)
    except EmailMalformed:
        return
    assert normalise_email(address) == address


def test_case_makes_no_other_address() -> None:
    assert email_digest("Ada@example.com") == email_digest("ada@example.com")
    assert email_digest("ada@example.com") != email_digest("eve@example.com")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ada@gmail.com", "A.D.A+news@googlemail.com", True),
        ("ada@example.com", "ada+x@example.com", True),
        ("a.da@example.com", "ada@example.com", False),
        ("+tag@example.com", "+other@example.com", False),
    ],
)
def test_mailboxes_behind_addresses(one: str, other: str, same: bool) -> None:
    assert (mailbox(one) == mailbox(other)) is same


@pytest.mark.parametrize("email", ["x@mailinator.com", "x@a.b.mailinator.com"])
def test_disposable_domains_are_refused(email: str) -> None:
    with pytest.raises(EmailDisposable):
        refuse_disposable(email)


@pytest.mark.parametrize("email", ["x@example.com", "x@notmailinator.com.example", "x@例子.广告"])
def test_other_domains_are_not(email: str) -> None:
    refuse_disposable(email)
