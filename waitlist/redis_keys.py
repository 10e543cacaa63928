"""Every key and channel that the waitlist uses.

All keys of the ledger share the tag {ledger}, so they live in one slot of a Redis Cluster: a
redemption touches the code, the address, the account, the key and the audit in one script.
"""

# Text: the version of the layout below.
SCHEMA = "fg:{ledger}:schema"
SCHEMA_VERSION = "1"

# Hashes:
#   invite   digest plan note batch_id created_at_ms expires_at_ms
#            used_at_ms account_id key_id (once redeemed) · revoked_at_ms (once withdrawn)
#   account  email plan created_at_ms invite_id
#   key      digest hint account_id created_at_ms · revoked_at_ms (once revoked)
INVITE_PREFIX = "fg:{ledger}:invite:"
ACCOUNT_PREFIX = "fg:{ledger}:account:"
KEY_PREFIX = "fg:{ledger}:key:"

# Text: digest of an address -> account id.
EMAIL_PREFIX = "fg:{ledger}:email:"

# Sorted set: key id, scored by the number of the key in order of creation. Text: the last number.
KEYS_BY_NUMBER = "fg:{ledger}:keys"
KEYS_LAST_NUMBER = "fg:{ledger}:keys-last-number"

# Stream: who did what and when, append-only, never with a code, a key or an address.
AUDIT = "fg:{ledger}:audit"

# Hashes, one for an account and month: day of the month, colon, model -> requests, prompt tokens
# and output tokens, with spaces between. Text: number of the last batch that a writer has added.
USAGE_PREFIX = "fg:{ledger}:usage:"
USAGE_BATCH_PREFIX = "fg:{ledger}:usage-batch:"

# Ledger channel: the id of a key as it is revoked.
REVOCATIONS_CHANNEL = "fg:revocations"


def invite(invite_id: str) -> str:
    return INVITE_PREFIX + invite_id


def account(account_id: str) -> str:
    return ACCOUNT_PREFIX + account_id


def key(key_id: str) -> str:
    return KEY_PREFIX + key_id


def email(email_digest: str) -> str:
    return EMAIL_PREFIX + email_digest


def usage(account_id: str, month: str) -> str:
    """`month` as 2026-11."""
    return f"{USAGE_PREFIX}{account_id}:{month}"


def usage_batch(writer: str) -> str:
    return USAGE_BATCH_PREFIX + writer


# On the flow Redis, read by the gateway's rate-limit script.
def revoked_keys(account_id: str) -> str:
    """Set: ids of the account's keys that were revoked within the last day."""
    return f"fg:revoked:{{{account_id}}}"


# Automatic release. Text with an end: who leads, as `<fencing token>:<holder>`. Text: last token.
RELEASE_LEASE = "fg:{ledger}:release-lease"
RELEASE_LAST_TOKEN = "fg:{ledger}:release-last-token"  # noqa: S105 - a fencing token

# Text: the decision that is not carried out yet, JSON. Stream: every decision and, once it was
# carried out, how many were let in; append-only.
RELEASE_OPEN_DECISION = "fg:{ledger}:release-open-decision"
RELEASE_DECISIONS = "fg:{ledger}:release-decisions"

# Hash: what operators set (paused, begins_at_s, from_hour, until_hour, batch_max), each JSON.
RELEASE_CONTROL = "fg:{ledger}:release-control"

# Hash: hour since 1970 -> `<sum of demand, slots> <samples> <people in>`.
RELEASE_HOURS = "fg:{ledger}:release-hours"

# Text: what was learned of the audit up to an entry, JSON.
RELEASE_LEARNED = "fg:{ledger}:release-learned"

# Of schema 2. Sorted set for each account: its key ids by the time of making, ms.
ACCOUNT_KEYS_PREFIX = "fg:{ledger}:account-keys:"

# Text: version and step of a migration that is under way, `<version> <cursor>`.
MIGRATION = "fg:{ledger}:migration"
