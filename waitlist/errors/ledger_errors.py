"""The ledger, its files, and what serving can do: gone, foreign or damaged."""

from waitlist.errors.root import WaitlistError


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
