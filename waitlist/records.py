"""What the directory hands out. Secrets are left out of every repr, so that no log shows them."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Invite:
    """A code that was just made: the only moment at which it can be read."""

    code: str = field(repr=False)
    invite_id: str
    plan: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Redemption:
    """A new account and its key: the only moment at which the key can be read."""

    account_id: str
    key_id: str
    plan: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a request needs to know about the key that it came with."""

    key_id: str
    account_id: str
    plan: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class KeyListing:
    """A key as operators see it. `hint` is `fg-…` and its last four characters."""

    key_id: str
    account_id: str
    email: str = field(repr=False)
    plan: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key that is revoked in the ledger, for good.

    Where `tombstone_error` is set, the flow Redis could not be told: gateways that have the key
    in their cache go on taking it until that entry ends, a few seconds.
    """

    key_id: str
    account_id: str
    revoked_at: datetime
    tombstone_error: str | None

    @property
    def tombstone_written(self) -> bool:
        return self.tombstone_error is None
