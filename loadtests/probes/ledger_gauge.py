"""What a ledger Redis holds and does, read from outside: memory and its parts, scripts, rewrites.

Only reads. The names of keys are those that waitlist/storage/redis_keys.py documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from redis import Redis

LINE = "fg:{ledger}:line"
AUDIT = "fg:{ledger}:audit"
ADDRESSES = "fg:{ledger}:addresses:*"
ENTRIES = "fg:{ledger}:entry:*"
SAMPLE = 4_000
# Keys looked at in one call: about 0.5 ms.
SCAN_EFFORT = 1_000


@dataclass(frozen=True)
class PeopleMemory:
    """Bytes of all people in line, and what they are of. The audit is apart.

    `row_bytes` is what is left over after line and index: the rows and their slots in Redis's
    table of keys. `row_counted_bytes` is what Redis counts for the rows alone.
    """

    people: int
    total_bytes: int
    line_bytes: float
    index_bytes: float
    row_counted_bytes: float
    audit_bytes: float

    @property
    def row_bytes(self) -> float:
        """Of all rows."""
        return self.total_bytes - self.line_bytes - self.index_bytes

    def each(self, part_bytes: float) -> float:
        """Bytes for one person."""
        return part_bytes / self.people


@dataclass(frozen=True)
class ScriptUse:
    """Scripts that were run since the server started, and the time that they held it."""

    calls: int
    held_us: int

    def since(self, before: "ScriptUse") -> "ScriptUse":
        """What came after another reading."""
        return ScriptUse(self.calls - before.calls, self.held_us - before.held_us)

    @property
    def us_each(self) -> float:
        """Time that one script held the server; 0.0 where none ran."""
        return self.held_us / self.calls if self.calls else 0.0


class LedgerGauge:
    """One connection to one ledger. Every method raises redis.RedisError when it is gone."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, decode_responses=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()

    def version(self) -> str:
        """Of the server, such as 7.0.15."""
        return str(self._info("server")["redis_version"])

    def used_bytes(self) -> int:
        """All that the server has allocated."""
        return int(self._info("memory")["used_memory"])

    def in_line(self) -> int:
        """People in line, pending or waiting."""
        return self._redis.zcard(LINE)

    def scripts(self) -> ScriptUse:
        """Scripts run so far."""
        found: dict[str, Any] = self._info("commandstats").get("cmdstat_evalsha", {})
        return ScriptUse(int(found.get("calls", 0)), int(found.get("usec", 0)))

    def is_rewriting(self) -> bool:
        """Whether the append-only file is being written anew: another process on the disk."""
        return bool(self._info("persistence")["aof_rewrite_in_progress"])

    def slowest_ms(self, since_s: float) -> float:
        """The longest that one command held the server, of those of 10 ms and more; 0.0: none.

        `since_s` counts from 1970.
        """
        entries = self._redis.slowlog_get(128)
        recent = [entry for entry in entries if entry["start_time"] >= int(since_s)]
        return max((entry["duration"] / 1e3 for entry in recent), default=0.0)

    def people_memory(self, empty_bytes: int) -> PeopleMemory:
        """What the people in line take, over a server that had `empty_bytes` without them."""
        buckets = list(self._redis.scan_iter(ADDRESSES, count=SCAN_EFFORT))
        rows = list(islice(self._redis.scan_iter(ENTRIES, count=SCAN_EFFORT), SAMPLE))
        people, audit_bytes = self.in_line(), self._usage_mean([AUDIT])
        used_bytes = self.used_bytes() - empty_bytes
        return PeopleMemory(
            people=people,
            total_bytes=round(used_bytes - audit_bytes),
            line_bytes=self._usage_mean([LINE]),
            index_bytes=self._usage_mean(buckets[:: len(buckets) // SAMPLE + 1]) * len(buckets),
            row_counted_bytes=self._usage_mean(rows) * people,
            audit_bytes=audit_bytes,
        )

    def audit_bytes(self) -> float:
        """Of the audit alone."""
        return self._usage_mean([AUDIT])

    def _usage_mean(self, keys: Sequence[str]) -> float:
        sizes: list[int] = []
        for page in _pages(keys, SCAN_EFFORT):
            calls = self._redis.pipeline(transaction=False)
            for key in page:
                calls.memory_usage(key, samples=SCAN_EFFORT)
            sizes += [int(size or 0) for size in calls.execute()]
        return sum(sizes) / len(sizes) if sizes else 0.0

    def _info(self, section: str) -> dict[str, Any]:
        return self._redis.info(section)


def _pages(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
