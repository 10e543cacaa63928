"""The waitlist's secret of one FLOODGATE_HOME: made once, kept, read by its user alone."""

import os
import secrets

from deploy.home import Home


def read_waitlist_secret(home: Home) -> str:
    """The secret, or an empty text where none was made yet. Raises OSError."""
    try:
        return home.waitlist_secret.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def keep_waitlist_secret(home: Home) -> str:
    """The secret, made now where there is none. Raises OSError."""
    known = read_waitlist_secret(home)
    if known:
        return known
    made = secrets.token_urlsafe(32)
    new = home.waitlist_secret.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(made + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(home.waitlist_secret)
    return made
