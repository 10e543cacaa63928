"""What the directory hands out. Secrets are left out of every repr, so that no log shows them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


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


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key as its account sees it. `ends_at` is set once it was rotated."""

    key_id: str
    hint: str
    name: str
    created_at: datetime
    revoked_at: datetime | None
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A further key of an account: the only moment at which it can be read."""

    key_id: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SharedInvite:
    """A code that an account handed on, as it stands now."""

    invite_id: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> Literal["open", "used", "expired", "revoked"]:
        if self.used_at is not None:
            return "used"
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "open"


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account with its place in the tree of who invited whom. `email` is '' once erased."""

    account_id: str
    email: str = field(repr=False)
    plan: str
    created_at: datetime
    invite_id: str
    inviter: str | None
    invites_left: int
    revoked_at: datetime | None
    entry_id: str | None
    guests: int
    invites: tuple[SharedInvite, ...]


@dataclass(frozen=True, slots=True)
class BranchRevocation:
    """The accounts that were revoked, root first, and the keys whose tombstones failed."""

    account_ids: tuple[str, ...]
    keys: int
    tombstone_error: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A join as it is stored, with its place while it is in line.

    `ahead` is the number of people who are let in earlier; None outside the line.
    """

    entry_id: str
    state: str
    ahead: int | None
    joined_at: datetime
    email: str | None = field(repr=False)
    locale: str
    referred_by: str | None
    referred: int
    invite_expires_at: datetime | None
    batch_id: str | None
    invite_id: str | None
    mute: bool
    note: str = field(repr=False)
    consent: bool

    @property
    def confirmed(self) -> bool:
        return self.state != "pending"


@dataclass(frozen=True, slots=True)
class Joined:
    """A new place. The ticket is the only way back to it, besides the mail's link.

    `repeated`: it was taken before, by a request of the same Idempotency-Key; `ahead` is 0 then.
    """

    entry_id: str
    ticket: str = field(repr=False)
    ahead: int
    confirmed: bool
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """So many people to be let in, and how many were."""

    batch_id: str
    size: int
    released: int
    state: str
    plan: str
    invite_life_s: float
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail of the outbox. Its text is made when it is sent or shown."""

    mail_id: str
    kind: str
    entry_id: str
    tries: int
    due_at: datetime
    reason: str
