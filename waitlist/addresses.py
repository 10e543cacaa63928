"""E-mail addresses: which are taken, and which count as the same. No look-ups in the network.

The one module that imports email_validator.
"""

from email_validator import EmailNotValidError, validate_email

from waitlist.errors import EmailMalformed
from waitlist.tokens import digest

# RFC 5321: a path of 256 characters, less its angle brackets.
EMAIL_CHARS_MAX = 254


def normalise_email(text: str) -> str:
    """The address as mail can be sent to it: domain in lower case, Unicode composed.

    Raises:
        EmailMalformed: it is no address, or one of a domain that no mail can reach.
    """
    if len(text) > EMAIL_CHARS_MAX:
        raise EmailMalformed(f"it has more than {EMAIL_CHARS_MAX} characters.")
    try:
        return validate_email(text.strip(), check_deliverability=False, strict=True).normalized
    except EmailNotValidError as error:
        raise EmailMalformed(str(error)) from None


def email_digest(email: str) -> str:
    """The same for two addresses that differ in case alone: they have one account."""
    return digest(email.casefold())
