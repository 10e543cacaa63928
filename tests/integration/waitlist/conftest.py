"""A directory on real Redis servers, and a reader that checks the whole ledger for damage."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory

TAG = "fg:{ledger}:"
# Where a deadline is not the subject: busy machines have kept a test from running for 8 s.
DEADLINE_S = 30.0


class Clock:
    """Seconds since 1970, moved by the test."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class LedgerState:
    """What the ledger holds, read without the code under test."""

    def __init__(self, client: "redis.Redis[str]") -> None:
        self.client = client

    def records(self, kind: str) -> dict[str, dict[str, str]]:
        prefix = f"{TAG}{kind}:"
        return {
            name.removeprefix(prefix): self.client.hgetall(name)
            for name in self.client.scan_iter(f"{prefix}*", count=1000)
        }

    def accounts_by_email_digest(self) -> dict[str, str]:
        prefix = f"{TAG}email:"
        return {
            name.removeprefix(prefix): self.client.get(name) or ""
            for name in self.client.scan_iter(f"{prefix}*", count=1000)
        }

    def audit(self, action: str = "") -> list[dict[str, str]]:
        entries = [fields for _, fields in self.client.xrange(f"{TAG}audit")]
        return [entry for entry in entries if action in ("", entry["action"])]

    def everything_as_text(self) -> str:
        """Names and values of all that is stored."""
        texts = []
        for name in self.client.scan_iter("*", count=1000):
            read = {
                "string": self.client.get,
                "hash": self.client.hgetall,
                "stream": self.client.xrange,
                "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            }[self.client.type(name)]
            texts.append(f"{name} {read(name)}")
        return "\n".join(sorted(texts))

    def assert_whole(self) -> None:
        """Each used code has one account, each account one address, one key and one code."""
        invites = self.records("invite")
        accounts = self.records("account")
        keys = self.records("key")
        used = {i: invite for i, invite in invites.items() if "used_at_ms" in invite}
        assert len({invite["account_id"] for invite in used.values()}) == len(used)
        assert {invite["account_id"] for invite in used.values()} == accounts.keys()
        assert {invite["key_id"] for invite in used.values()} == keys.keys()
        for invite_id, invite in used.items():
            account = accounts[invite["account_id"]]
            assert account["invite_id"] == invite_id
            assert account["plan"] == invite["plan"]
            assert keys[invite["key_id"]]["account_id"] == invite["account_id"]
        emails = [account["email"] for account in accounts.values()]
        assert len(set(emails)) == len(emails)
        assert sorted(self.accounts_by_email_digest().values()) == sorted(accounts)
        by_number = self.client.zrange(f"{TAG}keys", 0, -1, withscores=True)
        assert {key_id for key_id, _ in by_number} == keys.keys()
        assert [number for _, number in by_number] == list(range(1, len(keys) + 1))
        redeemed = self.audit("invite_redeemed")
        assert sorted(entry["account_id"] for entry in redeemed) == sorted(accounts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def directory(
    ledger_server: RedisServer, flow_server: RedisServer, clock: Clock
) -> AsyncIterator[Directory]:
    async with open_directory(
        ledger_server.url, flow_server.url, actor="test", clock=clock, deadline_s=DEADLINE_S
    ) as directory:
        yield directory


@pytest.fixture
def ledger_state(ledger_server: RedisServer) -> Iterator[LedgerState]:
    """Usable whenever the ledger runs, also after a restart."""
    with redis.Redis.from_url(ledger_server.url, decode_responses=True) as client:
        yield LedgerState(client)


@pytest.fixture
def flow_client(flow_server: RedisServer) -> Iterator["redis.Redis[str]"]:
    with redis.Redis.from_url(flow_server.url, decode_responses=True) as client:
        yield client
