"""Terms that hold wherever they are named: plans, notes, request keys, invites' lives. Pure."""

import re
from typing import Final

from waitlist.errors import RequestMalformed

PLAN_DEFAULT: Final = "free"
INVITE_LIFE_S_MAX: Final = 10 * 365 * 86_400
NOTE_CHARS_MAX: Final = 200
IDEMPOTENCY_KEY_CHARS_MAX: Final = 128

_PLAN_FORM = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


def check_plan(plan: str) -> None:
    """Raises RequestMalformed where the name is none of a plan."""
    if _PLAN_FORM.fullmatch(plan) is None:
        raise RequestMalformed(
            "A plan's name is 1 to 32 of a-z, 0-9, _ and -, the first a letter.", param="plan"
        )


def check_note(note: str) -> None:
    """Raises RequestMalformed where the note is no line of at most 200 characters."""
    if len(note) > NOTE_CHARS_MAX or not all(c.isprintable() for c in note):
        raise RequestMalformed(
            f"A note is one line of at most {NOTE_CHARS_MAX} characters.", param="note"
        )


def check_idempotency_key(text: str, *, chars_min: int = 1) -> None:
    """Raises RequestMalformed when the key is too short, too long or has other than ASCII."""
    if not (
        chars_min <= len(text) <= IDEMPOTENCY_KEY_CHARS_MAX
        and text.isascii()
        and text.isprintable()
    ):
        raise RequestMalformed(
            f"Idempotency-Key must be {chars_min} to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII "
            "characters.",
            param="Idempotency-Key",
        )


def check_invite_life(expires_in_s: float) -> None:
    """Raises RequestMalformed where the life is not above 0 and at most ten years."""
    if not 0 < expires_in_s <= INVITE_LIFE_S_MAX:
        raise RequestMalformed(
            "expires_in_s must be above 0 and at most ten years.", param="expires_in_s"
        )
