"""Terms that hold wherever they are named: plans, notes, the life of an invite. Pure."""

import re
from typing import Final

from waitlist.errors import RequestMalformed

PLAN_DEFAULT: Final = "free"
INVITE_LIFE_S_MAX: Final = 10 * 365 * 86_400
NOTE_CHARS_MAX: Final = 200

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


def check_invite_life(expires_in_s: float) -> None:
    """Raises RequestMalformed where the life is not above 0 and at most ten years."""
    if not 0 < expires_in_s <= INVITE_LIFE_S_MAX:
        raise RequestMalformed(
            "expires_in_s must be above 0 and at most ten years.", param="expires_in_s"
        )
