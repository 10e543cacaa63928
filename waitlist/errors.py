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


class WaitlistError(Exception):
    """Root of this package's errors.

    `message` is for whoever sent the request, `hint` (may be empty) for whoever runs Floodgate.
    Neither ever holds a code, a key, an address or a password.
    """

    status_code: int = 500
    code: str = "waitlist_error"

    # Seconds after which the same request may succeed; told as Retry-After.
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message = message
        self.param = param
        self.hint = hint


class RequestMalformed(WaitlistError):
    status_code = 400
    code = "invalid_request"


class RequestTooLarge(WaitlistError):
    status_code = 413
    code = "body_too_large"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The body may have at most {bytes_max} bytes.")


class CodeMalformed(WaitlistError):
    status_code = 400
    code = "code_malformed"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="code")


class EmailMalformed(WaitlistError):
    status_code = 400
    code = "email_malformed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This is not a usable e-mail address: {reason}", param="email")


class EmailDisposable(WaitlistError):
    status_code = 400
    code = "email_disposable"

    def __init__(self) -> None:
        super().__init__("Throw-away addresses are not taken. Please use another.", param="email")


class ProofInvalid(WaitlistError):
    status_code = 400
    code = "proof_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The proof of work {reason}. GET /waitlist/challenge gives a new challenge.",
            param="altcha",
        )


class KeyMissing(WaitlistError):
    status_code = 401
    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__("No API key. Send it as `Authorization: Bearer fg-…`.")


class KeyMalformed(WaitlistError):
    status_code = 401
    code = "malformed_api_key"

    def __init__(self) -> None:
        super().__init__("This API key is mistyped: its checksum does not match. Copy it again.")


class KeyUnknown(WaitlistError):
    status_code = 401
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("No such API key.")


class KeyRevoked(WaitlistError):
    status_code = 401
    code = "revoked_api_key"

    def __init__(self) -> None:
        super().__init__("This API key was revoked or has ended.")


class AdminKeyInvalid(WaitlistError):
    status_code = 401
    code = "invalid_admin_key"

    def __init__(self) -> None:
        super().__init__(
            "An operator's key is needed here: `Authorization: Bearer fga-…`.",
        )


class TicketInvalid(WaitlistError):
    status_code = 401
    code = "ticket_invalid"

    def __init__(self) -> None:
        super().__init__("This is no ticket of this waitlist.", param="ticket")


class TicketInsufficient(WaitlistError):
    status_code = 403
    code = "ticket_insufficient"

    def __init__(self) -> None:
        super().__init__(
            "Once an address is confirmed, only the ticket from its mail may do this.",
            param="ticket",
        )


class CodeBound(WaitlistError):
    status_code = 403
    code = "code_bound"

    def __init__(self) -> None:
        super().__init__(
            "This invite code is good for the address that it was sent to, and for no other. "
            "It was not used.",
            param="email",
        )


class CampaignPaused(WaitlistError):
    status_code = 403
    code = "campaign_paused"

    def __init__(self) -> None:
        super().__init__("Codes of this campaign cannot be redeemed at the moment.", param="code")


class RoleInsufficient(WaitlistError):
    status_code = 403
    code = "role_insufficient"

    def __init__(self, role: str) -> None:
        super().__init__(f"This needs the role {role}.")


class NotFound(WaitlistError):
    status_code = 404
    code = "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no such {what}.")


class CodeUnknown(WaitlistError):
    status_code = 404
    code = "code_unknown"

    def __init__(self) -> None:
        super().__init__(
            "This invite code is well formed, but it was never given out here.", param="code"
        )


class CodeUsed(WaitlistError):
    status_code = 409
    code = "code_used"

    def __init__(self) -> None:
        super().__init__("This invite code was already redeemed.", param="code")


class EmailHasAccount(WaitlistError):
    status_code = 409
    code = "email_has_account"

    def __init__(self) -> None:
        super().__init__(
            "This e-mail address has an account already. The invite code was not used.",
            param="email",
        )


class TooManyKeys(WaitlistError):
    status_code = 409
    code = "too_many_keys"

    def __init__(self, keys_max: int) -> None:
        super().__init__(f"An account has at most {keys_max} live keys. Revoke one first.")


class NoInvitesLeft(WaitlistError):
    status_code = 409
    code = "no_invites_left"

    def __init__(self) -> None:
        super().__init__("This account has no invites to hand on.")


class AlreadyExists(WaitlistError):
    status_code = 409
    code = "already_exists"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is such a {what} already.")


class PlaceRedeemed(WaitlistError):
    status_code = 409
    code = "place_redeemed"

    def __init__(self) -> None:
        super().__init__("This place was turned into an account; there is no line to leave.")


class CodeExpired(WaitlistError):
    status_code = 410
    code = "code_expired"

    def __init__(self) -> None:
        super().__init__("This invite code has expired.", param="code")


class CodeRevoked(WaitlistError):
    status_code = 410
    code = "code_revoked"

    def __init__(self) -> None:
        super().__init__("This invite code was withdrawn.", param="code")


class PlaceGone(WaitlistError):
    status_code = 410
    code = "place_gone"

    def __init__(self) -> None:
        super().__init__(
            "This place was not confirmed in time, or was given up. Please join again."
        )


class IdempotencyKeyReused(WaitlistError):
    status_code = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key came with another request before. Use a new one for each."
        )


class TooManyJoins(WaitlistError):
    status_code = 429
    code = "too_many_joins"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Too many people joined from this network. Please try again later.")
        self.retry_after_s = retry_after_s


class TooManyRefusals(WaitlistError):
    status_code = 429
    code = "too_many_refusals"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            "This code was tried with too many addresses, or too many were tried from this "
            "network. It was not used. Please try again later."
        )
        self.retry_after_s = retry_after_s


class WaitlistPaused(WaitlistError):
    status_code = 503
    code = "waitlist_paused"
    retry_after_s = 60

    def __init__(self) -> None:
        super().__init__("The waitlist takes nobody at the moment. All places are kept.")


class WatchersFull(WaitlistError):
    status_code = 503
    code = "watchers_full"
    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__("Too many people watch the line here. Ask /waitlist/status instead.")


class LedgerUnavailable(WaitlistError):
    status_code = 503
    retry_after_s = 5
    code = "ledger_unavailable"


class LedgerIncompatible(WaitlistError):
    status_code = 503
    code = "ledger_incompatible"

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(
            "Accounts cannot be read at the moment.",
            hint=f"The ledger has schema version {found}, this Floodgate works with {expected}: "
            "run the version that wrote it, bring an older ledger up with `floodgate ledger "
            "migrate`, or point FLOODGATE_LEDGER_URL at another ledger.",
        )


class LedgerDamaged(WaitlistError):
    status_code = 503
    code = "ledger_damaged"


class LedgerBackupRefused(WaitlistError):
    status_code = 503
    code = "ledger_backup_refused"


class LedgerMigrationRefused(WaitlistError):
    status_code = 503
    code = "ledger_migration_refused"


class GaugeUnavailable(WaitlistError):
    status_code = 503
    code = "gauge_unavailable"
