"""Every key that the gateway reads or writes on the flow Redis.

Keys of one account share the tag {account}, keys of one model (or pool) the tag {model}, so that
each script touches one hash slot of a Redis Cluster.
"""

# Written by serving, read here (see "What serving publishes" in docs/architecture.md).
MODELS = "fg:models"


def model_record(model: str) -> str:
    return f"fg:model:{{{model}}}"


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


def pool(name: str) -> str:
    """Prefix of a pool's keys. lua/include/pool.lua makes them from it, all with the pool's tag:

    :slots               hash: replica -> slots in use over all workers
    :capacity            hash: replica -> slots that it offers
    :room                sorted set: replica that offers slots, scored by the share of them in use
    :leases              sorted set: worker, scored by when its lease ends (ms, Redis TIME)
    :state               hash: virtual time, grants from the line so far, tickets waiting, tokens
                         reserved by those in line
    :line                sorted set: ticket, scored by its start in weighted tokens
    :entered             sorted set: ticket in line, scored by when it came into it (ms)
    :counters            sorted set: account, scored by its virtual token counter
    :running             hash: account -> requests that run
    :served              sorted set: account in line, scored by when it was last served (ms)
    :service             hash: account in line -> weighted tokens granted since it has been there
    :stays               hash: account in line -> the ticket with which it came there
    :worker:W:slots      hash: replica -> slots that this worker holds
    :worker:W:accounts   hash: account -> requests that this worker runs
    :prefix:D            text: replica that served the conversation of this digest last; 600 s
    :worker:W:tickets    hash: waiting ticket -> account, charge, concurrent requests, and as
                         one word `avoid|waiting,place,start|tokens|digest`: the replica to avoid,
                         the account's waiting requests, the ticket whose kept place it took and
                         the start of that (or neither), tokens reserved, the conversation's
                         digest or nothing
    :worker:W:grants     hash: ticket granted but not acknowledged -> replica, account
    :worker:W:at_once    hash: ticket granted at once since the last heartbeat -> replica, account
    :corrected:W         text: number of the worker's last batch of corrections; an hour
    :account:A:tickets   sorted set: ticket, scored 0 in line, 1 behind the account's concurrency,
                         and between them by arrival one that took a kept place and is there
    :account:A:kept      sorted set: ticket that was turned away and its start, all scored 0
    :account:A:kept_ends sorted set: the same, scored by when its place ends (ms)
    :account:A:floor     text: where the next place of :kept starts at the earliest
    """
    return f"fg:pool:{{{name}}}"


def demand(pool_name: str) -> str:
    """Text: the demand record, which serving reads (docs/architecture.md)."""
    return f"fg:demand:{{{pool_name}}}"


# Written here, read by serving. Hash: model -> replicas that operators want.
PINS = "fg:pins"


def grants_channel(worker_id: str) -> str:
    """Channel on which a worker learns of grants that another worker's call has made."""
    return f"fg:grants:{worker_id}"


# Written by the waitlist when a key is revoked, read here.
def revoked_keys(account_id: str) -> str:
    return f"fg:revoked:{{{account_id}}}"


# Ledger channel on which the waitlist announces revoked key ids.
REVOCATIONS_CHANNEL = "fg:revocations"
