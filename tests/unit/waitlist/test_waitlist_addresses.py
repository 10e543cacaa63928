"""Which e-mail addresses are taken, and which count as the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.addresses import email_digest, normalise_email
from waitlist.errors import EmailMalformed


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
