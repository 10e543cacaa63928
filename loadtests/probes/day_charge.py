"""What accounts have been charged today, read from the flow Redis. Only reads.

The keys are those that gateway/flow/redis_keys.py documents; only plans with a day's limit count.
"""

from redis import Redis

LIMITS = "fg:limits:*"


def charged_today(flow: Redis) -> float:
    """Tokens of all accounts: reserved ones, until they are settled, and used ones."""
    return sum(float(str(flow.hget(key, "day_tokens") or 0)) for key in flow.scan_iter(LIMITS))
