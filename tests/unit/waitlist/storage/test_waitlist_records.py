"""No secret in what a log or a traceback would show, and one slot for all ledger keys."""

from datetime import UTC, datetime

import pytest

from waitlist import errors
from waitlist.storage import redis_keys
from waitlist.storage.records import Invite, KeyListing, Redemption

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_reprs_hold_no_secret() -> None:
    shown = [
        repr(Invite("SECRET", "inv_1", "free", NOW, None)),
        repr(Redemption("acct_1", "key_1", "free", "SECRET")),
        repr(KeyListing("key_1", "acct_1", "SECRET", "free", "fg-…1234", NOW, None)),
    ]
    assert not any("SECRET" in text for text in shown)


def test_ledger_keys_share_one_slot() -> None:
    names = [
        redis_keys.SCHEMA,
        redis_keys.AUDIT,
        redis_keys.KEYS_BY_NUMBER,
        redis_keys.KEYS_LAST_NUMBER,
        redis_keys.invite("inv_1"),
        redis_keys.account("acct_1"),
        redis_keys.key("key_1"),
        redis_keys.email("0" * 64),
    ]
    assert all("{ledger}" in name for name in names)
    assert len(set(names)) == len(names)


def test_tombstones_lie_with_the_account_on_flow() -> None:
    assert redis_keys.revoked_keys("acct_1") == "fg:revoked:{acct_1}"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.RequestMalformed("x"), 400, "invalid_request"),
        (errors.CodeMalformed("x"), 400, "code_malformed"),
        (errors.EmailMalformed("x"), 400, "email_malformed"),
        (errors.CodeUnknown(), 404, "code_unknown"),
        (errors.CodeUsed(), 409, "code_used"),
        (errors.EmailHasAccount(), 409, "email_has_account"),
        (errors.CodeExpired(), 410, "code_expired"),
        (errors.CodeRevoked(), 410, "code_revoked"),
        (errors.RequestTooLarge(8), 413, "body_too_large"),
        (errors.LedgerUnavailable("x", hint="y"), 503, "ledger_unavailable"),
        (errors.LedgerIncompatible("2", "1"), 503, "ledger_incompatible"),
        (errors.LedgerDamaged("x", hint="y"), 503, "ledger_damaged"),
    ],
)
def test_each_error_has_its_own_code(error: errors.WaitlistError, status: int, code: str) -> None:
    assert (error.status_code, error.code) == (status, code)
    assert str(error).startswith(error.message)
