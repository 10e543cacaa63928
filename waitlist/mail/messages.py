"""What mails say, in English and Chinese. Pure.

Plain text: a link that a person can read is a link that a person can judge. The parts behind `#`
reach no server's log.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

Kind = Literal["confirm", "invite"]

_SUBJECTS: Final[dict[tuple[Kind, str], str]] = {
    ("confirm", "en"): "Please confirm your place on the waitlist",
    ("confirm", "zh"): "请确认您的排队登记",
    ("invite", "en"): "Your invite code",
    ("invite", "zh"): "您的邀请码",
}
_BODIES: Final[dict[tuple[Kind, str], str]] = {
    (
        "confirm",
        "en",
    ): """\
Hello,

somebody, we hope you, asked for a place on our waitlist with this address.

Open this link to confirm it. It also shows your place in line, now and later:

{link}

The link works until {until}. Keep it to yourself: whoever has it can give your place up.
If it was not you, do nothing; the request will be forgotten.
""",
    (
        "confirm",
        "zh",
    ): """\
您好:

有人(希望是您本人)用这个邮箱地址登记了排队。

请打开下面的链接确认。之后也可以用它查看您的排队位置:

{link}

链接有效期至 {until}。请勿转给他人:持有链接的人可以放弃您的位置。
如果不是您本人操作,请忽略此邮件,该登记会自动作废。
""",
    (
        "invite",
        "en",
    ): """\
Hello,

it is your turn. This is your invite code:

{code}

Redeem it here, with this e-mail address, by {until}:

{link}

After that it goes to the next person in line.
""",
    (
        "invite",
        "zh",
    ): """\
您好:

轮到您了。您的邀请码是:

{code}

请在 {until} 之前,用这个邮箱地址在这里兑换:

{link}

过期后,名额将让给下一位。
""",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A mail's text. It holds secrets: a link, a code."""

    subject: str
    body: str = field(repr=False)


def confirm_message(public_url: str, ticket: str, until: datetime, locale: str) -> Message:
    """`ticket` is the one that proves the address."""
    return _message("confirm", locale, link=f"{public_url}/waitlist#ticket={ticket}", until=until)


def redeem_link(public_url: str, code: str) -> str:
    """Where a code is redeemed."""
    return f"{public_url.rstrip('/')}/redeem#code={code}"


def invite_message(public_url: str, code: str, until: datetime | None, locale: str) -> Message:
    return _message("invite", locale, link=redeem_link(public_url, code), until=until, code=code)


def _message(
    kind: Kind, locale: str, *, link: str, until: datetime | None, code: str = ""
) -> Message:
    when = "-" if until is None else f"{until:%Y-%m-%d %H:%M} UTC"
    body = _BODIES[kind, locale].format(link=link, until=when, code=code)
    return Message(_SUBJECTS[kind, locale], body)
