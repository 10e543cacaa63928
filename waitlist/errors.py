"""Errors of the waitlist.

    WaitlistError
    ├── RequestMalformed     400  a field is missing, too long, of the wrong type or not known
    ├── CodeMalformed        400  no invite code, or one with a typo; the ledger was not asked
    ├── EmailMalformed       400  no e-mail address; the ledger was not asked
    ├── CodeUnknown          404  well formed, but never given out
    ├── CodeUsed             409  somebody has an account by this code
    ├── EmailHasAccount      409  the address has an account; the code stays good
    ├── CodeExpired          410
    ├── CodeRevoked          410
    ├── RequestTooLarge      413
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


class LedgerUnavailable(WaitlistError):
    status_code = 503
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
