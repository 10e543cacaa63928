"""Who is calling: a key from the headers to a Caller.

Cheap checks come first: a malformed key fails on its checksum and never reaches Redis. Found keys
are trusted for a few seconds in the process; the rate-limit script catches a revocation within
that time. While the ledger is gone, keys that this worker knows go on for some minutes.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import AuthenticationFailed, Unavailable, retry_headers

# While the ledger is gone, a known key asks for it this often: each asking may wait a deadline.
_ASK_AGAIN_S = 1.0
# About 300 bytes each: 50,000 are 15 MB, a third of what a worker weighs at start.
_CACHED_KEYS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a request and the key it came with."""

    key_id: str
    account_id: str
    plan: str


class DirectoryUnavailable(Exception):
    """The directory of keys cannot be read now."""


class KeyDirectory(Protocol):
    """Where keys are kept. `gateway.app` wires the waitlist's ledger here."""

    def is_well_formed(self, api_key: str) -> bool:
        """Whether the text has a key's form and checksum. No I/O."""

    async def find(self, api_key: str) -> Caller | None:
        """The caller of a live key; None when unknown.

        Raises:
            AuthenticationFailed: the key is known and revoked.
            DirectoryUnavailable: the ledger is gone or too slow.
        """


@dataclass(slots=True)
class _Known:
    caller: Caller
    looked_up_at: float
    trusted_until: float


class Authenticator:
    def __init__(
        self,
        directory: KeyDirectory,
        *,
        cache_s: float,
        stale_s_max: float,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._cache_s = cache_s
        self._stale_s_max = stale_s_max
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        # Requests with one key share a lookup: at saturation dozens come as its trust ends.
        self._lookups: dict[bytes, asyncio.Task[Caller | None]] = {}

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller named by `Authorization: Bearer` or `x-api-key`.

        Raises:
            AuthenticationFailed: no key, or a malformed, unknown or revoked one.
            Unavailable: the ledger is gone and this worker does not know the key.
        """
        api_key = _key_from(headers)
        digest = hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        now = self._clock()
        if known is not None and now < known.trusted_until:
            return known.caller
        if known is None and not self._directory.is_well_formed(api_key):
            raise AuthenticationFailed(
                "This API key is mistyped: its checksum does not match. Copy it again.",
                code="malformed_api_key",
            )
        try:
            caller = await self._find(digest, api_key)
        except AuthenticationFailed:
            self._known.pop(digest, None)
            raise
        except DirectoryUnavailable:
            if known is not None and now - known.looked_up_at < self._stale_s_max:
                known.trusted_until = self._clock() + _ASK_AGAIN_S
                return known.caller
            raise Unavailable(
                "API keys cannot be checked at the moment. Try again shortly.",
                code="ledger_unavailable",
                headers=retry_headers(5),
            ) from None
        if caller is None:
            self._known.pop(digest, None)
            raise AuthenticationFailed("No such API key.", code="invalid_api_key")
        self._remember(digest, _Known(caller, now, now + self._cache_s))
        return caller

    async def _find(self, digest: bytes, api_key: str) -> Caller | None:
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(digest, api_key), name="find-key")
            self._lookups[digest] = lookup
        # Who hangs up while waiting must not end the lookup for the others.
        return await asyncio.shield(lookup)

    async def _look_up(self, digest: bytes, api_key: str) -> Caller | None:
        try:
            return await self._directory.find(api_key)
        finally:
            del self._lookups[digest]

    def forget(self, key_ids: set[str]) -> None:
        """Drops revoked keys, so that the next request looks them up again."""
        for digest in [d for d, k in self._known.items() if k.caller.key_id in key_ids]:
            del self._known[digest]

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        self._known.move_to_end(digest)
        if len(self._known) > _CACHED_KEYS_MAX:
            self._known.popitem(last=False)


def revoked_key() -> AuthenticationFailed:
    return AuthenticationFailed("This API key was revoked.", code="revoked_api_key")


def _key_from(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                return token.strip().decode("latin-1")
        elif name == b"x-api-key" and value.strip():  # how Anthropic's SDKs send it
            return value.strip().decode("latin-1")
    raise AuthenticationFailed(
        "No API key. Send it as `Authorization: Bearer fg-…`; "
        "POST /invites/redeem turns an invite code into a key.",
        code="missing_api_key",
    )
