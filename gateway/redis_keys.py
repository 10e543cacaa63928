"""Every key that the gateway reads or writes on the flow Redis.

Keys of one account share the tag {account}, keys of one model (or pool) the tag {model}, so that
each script touches one hash slot of a Redis Cluster.
"""

# Written by serving, read here (see "The replica record" in docs/architecture.md).
MODELS = "fg:models"


def replica_index(model: str) -> str:
    return f"fg:replicas:{{{model}}}"


def replica_record_prefix(model: str) -> str:
    return f"fg:replica:{{{model}}}:"


# Written here.
def account_limits(account_id: str) -> str:
    """Hash: what the account has used of its minute and of today (lua/reserve.lua)."""
    return f"fg:limits:{{{account_id}}}"


def settled_batch(account_id: str, worker_id: str) -> str:
    """Text: number of the worker's last batch of settlements for the account."""
    return f"fg:settled:{{{account_id}}}:{worker_id}"


def slots_used(pool: str) -> str:
    """Hash: replica id -> slots in use over all gateway workers."""
    return f"fg:slots:{{{pool}}}"


def worker_leases(pool: str) -> str:
    """Sorted set: worker id, scored by when its lease ends (ms, Redis TIME)."""
    return f"fg:workers:{{{pool}}}"


def worker_slots_prefix(pool: str) -> str:
    """Prefix of one hash a worker: replica id -> slots that this worker holds."""
    return f"fg:worker-slots:{{{pool}}}:"


# Written by the waitlist when a key is revoked, read here.
def revoked_keys(account_id: str) -> str:
    return f"fg:revoked:{{{account_id}}}"


# Ledger channel on which the waitlist announces revoked key ids.
REVOCATIONS_CHANNEL = "fg:revocations"
