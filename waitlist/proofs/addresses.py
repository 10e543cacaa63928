"""E-mail addresses: which are taken, and which count as the same. No look-ups in the network.

The one module that imports email_validator and disposable_email_domains.
"""

from disposable_email_domains import blocklist
from email_validator import EmailNotValidError, validate_email

from waitlist.errors import EmailDisposable, EmailMalformed
from waitlist.proofs.tokens import digest

# RFC 5321: a path of 256 characters, less its angle brackets.
EMAIL_CHARS_MAX = 254
# Providers that ignore dots in the name.
_DOTLESS_DOMAINS = frozenset({"gmail.com", "googlemail.com"})


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


def refuse_disposable(email: str) -> None:
    """Raises EmailDisposable for an address of a throw-away domain or one of its subdomains."""
    labels = _ascii_domain(email.rpartition("@")[2]).split(".")
    if any(".".join(labels[i:]) in blocklist for i in range(len(labels) - 1)):
        raise EmailDisposable


def email_digest(email: str) -> str:
    """The same for two addresses that differ in case alone: they have one account."""
    return digest(email.casefold())


def mailbox(email: str) -> str:
    """The mailbox behind an address, as far as can be told: without a `+tag`, Gmail's without dots.

    For counting alone. Two people may share one at an unusual provider, so nothing is handed out
    on the strength of it.
    """
    name, _, domain = email.casefold().rpartition("@")
    name = name.partition("+")[0] or name
    if domain in _DOTLESS_DOMAINS:
        name, domain = name.replace(".", ""), "gmail.com"
    return f"{name}@{domain}"


def _ascii_domain(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return domain.lower()
