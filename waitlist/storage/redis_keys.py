"""Every key and channel that the waitlist uses.

All keys of the ledger share the tag {ledger}, so they live in one slot of a Redis Cluster: a
redemption touches the code, the address, the account, the key, the place and the audit in one
script. Names of fields are short where there is one record for each waiting person: Redis stores
them with every record.
"""

import secrets

# Text: the version of the layout below. 1 had invites, accounts, keys, keys-last-number, email
# and audit only; 2 adds all else, of which an older ledger lacks account-keys alone.
SCHEMA = "fg:{ledger}:schema"
SCHEMA_VERSION = "2"

# Hashes. "·" parts what is always there from what may be:
#   invite   digest plan note batch_id created_at_ms expires_at_ms
#            · uses_max uses (codes for more than one) · campaign · transferable
#            · address (digest of the one address it is good for) · entry (whose place it came from)
#            · inviter (account that handed it on)
#            · used_at_ms account_id key_id (once used up) · revoked_at_ms (once withdrawn)
#   account  email plan created_at_ms invite_id
#            · inviter (account) · entry · invites_left · revoked_at_ms (with all its keys)
#   key      digest hint account_id created_at_ms
#            · name · expires_at_ms (the end of a rotation's overlap) · revoked_at_ms
INVITE_PREFIX = "fg:{ledger}:invite:"
ACCOUNT_PREFIX = "fg:{ledger}:account:"
KEY_PREFIX = "fg:{ledger}:key:"

# Text: digest of an address -> account id.
EMAIL_PREFIX = "fg:{ledger}:email:"

# Sorted set: key id, scored by the number of the key in order of creation. Text: the last number.
KEYS_BY_NUMBER = "fg:{ledger}:keys"
KEYS_LAST_NUMBER = "fg:{ledger}:keys-last-number"

# Sorted sets, one for each account: its key ids, its invite ids, and the accounts that came by
# its invites, each scored by the time of making, ms.
ACCOUNT_KEYS_PREFIX = "fg:{ledger}:account-keys:"
ACCOUNT_INVITES_PREFIX = "fg:{ledger}:account-invites:"
ACCOUNT_GUESTS_PREFIX = "fg:{ledger}:account-guests:"

# Hash, one for each join: state at (ms) · email (gone once left or erased) · locale · note
#   · consent · by (entry whose link was followed) · referred (how many came by its link and count)
#   · mute (no mail goes out: the address had its share) · batch invite (once invited)
#   state: pending (not confirmed) waiting invited redeemed expired left
ENTRY_PREFIX = "fg:{ledger}:entry:"

# Sorted set: entry id of everybody in line, pending or waiting; a lower score is let in earlier.
# The score is the number of the join, less what referrals earned. Text: the last number.
LINE = "fg:{ledger}:line"
LINE_LAST_NUMBER = "fg:{ledger}:line-last-number"

# Hashes, 65,536 of them, small enough to stay packed: the digest's first four hexadecimal digits
# choose the hash, the next 24 are the field; value: the entry that the address was confirmed for
# last.
ADDRESSES_PREFIX = "fg:{ledger}:addresses:"

# Sorted sets of entry ids: pending by the end of the time to confirm, ms; invited by the invite's
# expiry, ms.
PENDING = "fg:{ledger}:pending"
INVITED = "fg:{ledger}:invited"

# Mails to be sent. A mail's id is `<kind>:<entry id>`, so each is there once; its text is made
# when it is sent. Sorted sets by the next try, ms, and by the time at which one was given up or,
# without a mail server, handed to the operator. Hashes: mail id -> tries, reason.
OUTBOX = "fg:{ledger}:outbox"
OUTBOX_HELD = "fg:{ledger}:outbox-held"
OUTBOX_TRIES = "fg:{ledger}:outbox-tries"
OUTBOX_REASONS = "fg:{ledger}:outbox-reasons"

# Text with an end: joins of a network in an hour, mails to a mailbox in a day (names are keyed
# digests), proofs of work that were used.
NETWORK_JOINS_PREFIX = "fg:{ledger}:network-joins:"
MAILBOX_JOINS_PREFIX = "fg:{ledger}:mailbox-joins:"
SPENT_PROOF_PREFIX = "fg:{ledger}:spent-proof:"

# Hashes with an end: how many redemptions of a network or a code were refused for their address
# (count), and the id of the last one's attempt (last).
NETWORK_REFUSALS_PREFIX = "fg:{ledger}:network-refusals:"
CODE_REFUSALS_PREFIX = "fg:{ledger}:code-refusals:"

# Hash with an end: fingerprint of a request and its answer, encrypted under its Idempotency-Key.
ANSWER_PREFIX = "fg:{ledger}:answer:"

# Hash: size released state (open, done) plan invite_life_ms reason created_at_ms · transferable.
# Sorted sets: batch ids by time of making, ms; those of them that are open.
BATCH_PREFIX = "fg:{ledger}:batch:"
BATCHES = "fg:{ledger}:batches"
BATCHES_OPEN = "fg:{ledger}:batches-open"

# Hash: count every_ms (0: once) plan invite_life_ms until_ms ('' for ever) created_at_ms
#   next_at_ms.
# Sorted set: schedule id by its next time, ms.
SCHEDULE_PREFIX = "fg:{ledger}:schedule:"
SCHEDULES = "fg:{ledger}:schedules"

# Hash: plan codes redeemed created_at_ms attempt · paused_at_ms. Sorted set: name by time of
# making, ms.
CAMPAIGN_PREFIX = "fg:{ledger}:campaign:"
CAMPAIGNS = "fg:{ledger}:campaigns"

# Hash: `joining`, `releasing` -> the time at which it was paused, ms.
PAUSES = "fg:{ledger}:pauses"

# Hash: model -> replicas that operators want of it, whatever its line asks for.
REPLICA_PINS = "fg:{ledger}:replica-pins"

# Hash, one for each day (UTC): joined confirmed unconfirmed invited redeemed expired left
#   erased referred.
# Hash: hour since 1970 -> people released in it; older than a fortnight is dropped.
STATISTICS_PREFIX = "fg:{ledger}:statistics:"
RELEASED_BY_HOUR = "fg:{ledger}:released-by-hour"

# Hash: digest hint name role created_at_ms · revoked_at_ms. Sorted set: id by time of making.
ADMIN_PREFIX = "fg:{ledger}:admin:"
ADMINS = "fg:{ledger}:admins"

# Hash, one for each imported file: rows (read so far) added skipped passed_over rejected.
IMPORT_PREFIX = "fg:{ledger}:import:"

# Stream: who did what and when, append-only, never with a code, a key or an address.
AUDIT = "fg:{ledger}:audit"
# Text with an end: an attempt that was carried out, for scripts that could not tell from what they
# find that they were sent twice. It lives longer than any call is sent again.
MARK_PREFIX = "fg:{ledger}:mark:"
MARK_LIFE_MS = 60_000

# Hashes, one for an account and month: day of the month, colon, model -> requests, prompt tokens
# and output tokens, with spaces between. Text: number of the last batch that a writer has added.
USAGE_PREFIX = "fg:{ledger}:usage:"
USAGE_BATCH_PREFIX = "fg:{ledger}:usage-batch:"

# Ledger channel: the id of a key as it is revoked.
REVOCATIONS_CHANNEL = "fg:revocations"

_ADDRESS_BUCKET_DIGITS = 4
_ADDRESS_FIELD_DIGITS = 24


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


def account_keys(account_id: str) -> str:
    return ACCOUNT_KEYS_PREFIX + account_id


def account_invites(account_id: str) -> str:
    return ACCOUNT_INVITES_PREFIX + account_id


def entry(entry_id: str) -> str:
    return ENTRY_PREFIX + entry_id


def addresses(email_digest: str) -> tuple[str, str]:
    """The hash that an address's entry stands in, and its field there."""
    bucket = email_digest[:_ADDRESS_BUCKET_DIGITS]
    field = email_digest[_ADDRESS_BUCKET_DIGITS:][:_ADDRESS_FIELD_DIGITS]
    return ADDRESSES_PREFIX + bucket, field


def network_joins(network_tag: str) -> str:
    return NETWORK_JOINS_PREFIX + network_tag


def mailbox_joins(mailbox_tag: str) -> str:
    return MAILBOX_JOINS_PREFIX + mailbox_tag


def spent_proof(proof_digest: str) -> str:
    return SPENT_PROOF_PREFIX + proof_digest


def network_refusals(network_tag: str) -> str:
    return NETWORK_REFUSALS_PREFIX + network_tag


def code_refusals(invite_id: str) -> str:
    return CODE_REFUSALS_PREFIX + invite_id


def answer(request_digest: str) -> str:
    return ANSWER_PREFIX + request_digest


def batch(batch_id: str) -> str:
    return BATCH_PREFIX + batch_id


def schedule(schedule_id: str) -> str:
    return SCHEDULE_PREFIX + schedule_id


def campaign(name: str) -> str:
    return CAMPAIGN_PREFIX + name


def statistics(day: str) -> str:
    """`day` is YYYY-MM-DD in UTC."""
    return STATISTICS_PREFIX + day


def admin(admin_id: str) -> str:
    return ADMIN_PREFIX + admin_id


def import_of(file_digest: str) -> str:
    return IMPORT_PREFIX + file_digest


def new_mark() -> str:
    """The mark of one attempt."""
    return MARK_PREFIX + secrets.token_hex(8)


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

# Hash: what operators set (begins_at_s, from_hour, until_hour, batch_max), each JSON.
RELEASE_CONTROL = "fg:{ledger}:release-control"

# Sorted set: the latest accounts with a request, by the time of their first, ms.
LATEST_PEOPLE = "fg:{ledger}:latest-people"

# Hash: hour since 1970 -> `<sum of demand, slots> <samples> <people in>`.
RELEASE_HOURS = "fg:{ledger}:release-hours"

# Text: what was learned of the audit up to an entry, JSON.
RELEASE_LEARNED = "fg:{ledger}:release-learned"

# Text: version and step of a migration that is under way, `<version> <cursor>`.
MIGRATION = "fg:{ledger}:migration"
