"""Tickets of the line and the codes of its places, all made from one secret. No I/O.

A ticket is `fgt-` or `fgo-`, the entry's id (12 base62 characters) and 128 bits of an HMAC-SHA256
as 22 base62 characters, so a forged or mistyped one never reaches the ledger, and none is stored.
`fgt-` is what joining answers: it watches, and leaves a place that is not confirmed. `fgo-` is
what the mail's link holds, so it proves the address: it may do everything.

A place's invite code is an HMAC as well. The mail with it can be made again at each try, while
the ledger holds nothing but its digest.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass

from waitlist.errors import TicketInvalid, WaitlistError
from waitlist.proofs import tokens

_WATCH_PREFIX = "fgt-"
_OWNER_PREFIX = "fgo-"
_ID_CHARS = 12
_MAC_CHARS = 22
_FORM = re.compile(rf"(fg[to]-)([0-9A-Za-z]{{{_ID_CHARS}}})([0-9A-Za-z]{{{_MAC_CHARS}}})", re.ASCII)
_ID_FORM = re.compile(rf"[0-9A-Za-z]{{{_ID_CHARS}}}", re.ASCII)
TICKET_CHARS_MAX = len(_WATCH_PREFIX) + _ID_CHARS + _MAC_CHARS
# Providers hand out /64 and more to one customer; a /24 is the least that is routed.
_IPV4_NETWORK_BITS = 24
_IPV6_NETWORK_BITS = 64
SECRET_CHARS_MIN = 32


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who a ticket speaks for. `owner`: it came from the mail of the address."""

    entry_id: str
    owner: bool


class TicketSigner:
    def __init__(self, secret: str) -> None:
        """An empty secret is taken; whatever would need it then says that it is missing."""
        self._secret = secret.encode()

    @property
    def usable(self) -> bool:
        return len(self._secret) >= SECRET_CHARS_MIN

    def watch_ticket(self, entry_id: str) -> str:
        return _WATCH_PREFIX + entry_id + self._ticket_mac(_WATCH_PREFIX, entry_id)

    def owner_ticket(self, entry_id: str) -> str:
        return _OWNER_PREFIX + entry_id + self._ticket_mac(_OWNER_PREFIX, entry_id)

    def read(self, text: str) -> Ticket:
        """Raises TicketInvalid when we did not make it."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise TicketInvalid
        prefix, entry_id, mac = found.groups()
        if not hmac.compare_digest(mac, self._ticket_mac(prefix, entry_id)):
            raise TicketInvalid
        return Ticket(entry_id=entry_id, owner=prefix == _OWNER_PREFIX)

    def code(self, entry_id: str, batch_id: str) -> str:
        """The invite code of a place in a batch: 100 bits that nobody without the secret knows."""
        bits = int.from_bytes(self._mac(f"code:{entry_id}:{batch_id}"))
        return tokens.code_of(bits >> (8 * hashlib.sha256().digest_size - tokens.CODE_BITS))

    def network_tag(self, address: str) -> str:
        """The same for all addresses of one network; tells nobody which network it is."""
        return self._mac(f"network:{_network(address)}").hex()[:24]

    def mailbox_tag(self, mailbox: str) -> str:
        """The same for one mailbox; tells nobody which it is."""
        return self._mac(f"mailbox:{mailbox}").hex()[:24]

    def mail_tag(self, mail_id: str) -> str:
        """A name for a mail that is the same at each try and tells nobody what is in it."""
        return self._mac(f"mail:{mail_id}").hex()[:32]

    def proof_key(self) -> str:
        """The key that challenges are signed with."""
        return self._mac("proof-of-work").hex()

    def entry_id_of(self, file_digest: str, row: int) -> str:
        """The entry id of a row of an import: the same whenever that row is read."""
        bits = int.from_bytes(self._mac(f"import:{file_digest}:{row}"))
        return tokens.base62(bits, _ID_CHARS)

    def entry_id_of_key(self, idempotency_key: str, *, confirm_by_mail: bool) -> str:
        """The entry id of a join: the same whenever it comes with that key.

        Which ticket a join answers hangs on whether mail confirms, so the two never share a place.
        """
        how = "mail" if confirm_by_mail else "at-once"
        return tokens.base62(int.from_bytes(self._mac(f"join:{how}:{idempotency_key}")), _ID_CHARS)

    def _ticket_mac(self, prefix: str, entry_id: str) -> str:
        mac = self._mac(f"ticket:{prefix}{entry_id}")
        return tokens.base62(int.from_bytes(mac[:16]), _MAC_CHARS)

    def _mac(self, text: str) -> bytes:
        if not self.usable:
            raise WaitlistSecretMissing
        return hmac.digest(self._secret, text.encode("utf-8", "surrogatepass"), "sha256")


class WaitlistSecretMissing(WaitlistError):
    """Tickets and places need a secret."""

    status_code = 503
    code = "waitlist_not_set_up"

    def __init__(self) -> None:
        super().__init__(
            "This Floodgate has no waitlist.",
            hint=f"Set FLOODGATE_WAITLIST_SECRET to at least {SECRET_CHARS_MIN} random characters, "
            "the same for every gateway and command.",
        )


def new_entry_id() -> str:
    return tokens.base62(secrets.randbits(128), _ID_CHARS)


def is_entry_id(text: str) -> bool:
    return _ID_FORM.fullmatch(text) is not None


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a unix socket, or a test's transport
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    bits = _IPV4_NETWORK_BITS if parsed.version == 4 else _IPV6_NETWORK_BITS
    return str(ipaddress.ip_network(f"{parsed}/{bits}", strict=False))
