"""Errors of the waitlist.

    WaitlistError
    ├── RequestMalformed     400  a field is missing, too long, of the wrong type or not known
    ├── CodeMalformed        400  no invite code, or one with a typo; the ledger was not asked
    ├── EmailMalformed       400  no e-mail address; the ledger was not asked
    ├── EmailDisposable      400  an address of a throw-away domain
    ├── ProofInvalid         400  the proof of work is missing, wrong, too old or was used before
    ├── KeyMissing, KeyMalformed, KeyUnknown, KeyRevoked   401  an account's key is wanted
    ├── AdminKeyInvalid      401  an operator's key is wanted
    ├── TicketInvalid        401  no ticket of ours
    ├── TicketInsufficient   403  only the ticket of the mail's link may do this
    ├── CodeBound            403  the code is for another address
    ├── CampaignPaused       403
    ├── RoleInsufficient     403  another operator may do this
    ├── CodeUnknown          404  well formed, but never given out
    ├── NotFound             404  no record of this id
    ├── CodeUsed             409  somebody has an account by this code
    ├── EmailHasAccount      409  the address has an account; the code stays good
    ├── TooManyKeys, NoInvitesLeft, AlreadyExists, PlaceRedeemed   409
    ├── CodeExpired          410
    ├── CodeRevoked          410
    ├── PlaceGone            410  the place was not confirmed in time, or given up
    ├── RequestTooLarge      413
    ├── IdempotencyKeyReused 422  the same Idempotency-Key came with another request
    ├── TooManyJoins         429  from one network
    ├── TooManyRefusals      429  redemptions of a network or a code were refused too often
    ├── WaitlistPaused       503  nobody may join now
    ├── WatchersFull         503  too many streams on this worker
    ├── LedgerUnavailable    503  the ledger is gone, too slow or refuses writes
    ├── LedgerIncompatible   503  the ledger was written by another version
    ├── LedgerDamaged        503  the ledger's files cannot be loaded; told before it starts
    ├── LedgerBackupRefused  503  no backup could be made of it, or restored from the file
    ├── LedgerMigrationRefused 503  no way from the ledger's schema to ours
    └── GaugeUnavailable     503  nobody knows how much serving can do; automatic release waits

Codes have 100 random bits and cannot be guessed, so their state is told honestly.
"""

from waitlist.errors.holder_errors import (
    AdminKeyInvalid,
    KeyMalformed,
    KeyMissing,
    KeyRevoked,
    KeyUnknown,
    RoleInsufficient,
    TicketInsufficient,
    TicketInvalid,
)
from waitlist.errors.ledger_errors import (
    GaugeUnavailable,
    LedgerBackupRefused,
    LedgerDamaged,
    LedgerIncompatible,
    LedgerMigrationRefused,
    LedgerUnavailable,
)
from waitlist.errors.record_errors import (
    AlreadyExists,
    CampaignPaused,
    CodeBound,
    CodeExpired,
    CodeRevoked,
    CodeUnknown,
    CodeUsed,
    EmailHasAccount,
    NoInvitesLeft,
    NotFound,
    PlaceGone,
    PlaceRedeemed,
    TooManyKeys,
)
from waitlist.errors.request_errors import (
    CodeMalformed,
    EmailDisposable,
    EmailMalformed,
    IdempotencyKeyReused,
    ProofInvalid,
    RequestMalformed,
    RequestTooLarge,
    TooManyJoins,
    TooManyRefusals,
    WaitlistPaused,
    WatchersFull,
)
from waitlist.errors.root import WaitlistError

__all__ = [
    "AdminKeyInvalid",
    "AlreadyExists",
    "CampaignPaused",
    "CodeBound",
    "CodeExpired",
    "CodeMalformed",
    "CodeRevoked",
    "CodeUnknown",
    "CodeUsed",
    "EmailDisposable",
    "EmailHasAccount",
    "EmailMalformed",
    "GaugeUnavailable",
    "IdempotencyKeyReused",
    "KeyMalformed",
    "KeyMissing",
    "KeyRevoked",
    "KeyUnknown",
    "LedgerBackupRefused",
    "LedgerDamaged",
    "LedgerIncompatible",
    "LedgerMigrationRefused",
    "LedgerUnavailable",
    "NoInvitesLeft",
    "NotFound",
    "PlaceGone",
    "PlaceRedeemed",
    "ProofInvalid",
    "RequestMalformed",
    "RequestTooLarge",
    "RoleInsufficient",
    "TicketInsufficient",
    "TicketInvalid",
    "TooManyJoins",
    "TooManyKeys",
    "TooManyRefusals",
    "WaitlistError",
    "WaitlistPaused",
    "WatchersFull",
]
