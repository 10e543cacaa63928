"""A directory on real Redis servers, and a reader that checks the whole ledger for damage."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar, cast

import pytest
import redis

from tests.mail_server import MailServer
from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.line.join_request import JoinRequest
from waitlist.settings import WaitlistSettings
from waitlist.storage.ledger import Ledger
from waitlist.storage.records import Joined

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
    """What the ledger holds, read without the code under test.

    Of strings, since the client decodes; redis does not tell that by its types.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def records(self, kind: str) -> dict[str, dict[str, str]]:
        prefix = f"{TAG}{kind}:"
        return {
            name.removeprefix(prefix): cast("dict[str, str]", self.client.hgetall(name))
            for name in self.client.scan_iter(f"{prefix}*", count=1000)
        }

    def accounts_by_email_digest(self) -> dict[str, str]:
        prefix = f"{TAG}email:"
        return {
            name.removeprefix(prefix): cast("str | None", self.client.get(name)) or ""
            for name in self.client.scan_iter(f"{prefix}*", count=1000)
        }

    def audit(self, action: str = "") -> list[dict[str, str]]:
        entries = cast("list[tuple[str, dict[str, str]]]", self.client.xrange(f"{TAG}audit"))
        return [entry for _, entry in entries if action in ("", entry["action"])]

    def everything_as_text(self) -> str:
        """Names and values of all that is stored."""
        texts = []
        for name in self.client.scan_iter("*", count=1000):
            readers: dict[str, Callable[[str], object]] = {
                "string": self.client.get,
                "hash": self.client.hgetall,
                "stream": self.client.xrange,
                "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            }
            read = readers[cast("str", self.client.type(name))]
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
        by_number = cast(
            "list[tuple[str, float]]", self.client.zrange(f"{TAG}keys", 0, -1, withscores=True)
        )
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
def flow_client(flow_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(flow_server.url, decode_responses=True) as client:
        yield client


SECRET = "a secret of the tests, long enough to be one"


class TwiceLedger(Ledger):
    """Sends every script twice, as after a broken connection, and wants the same answer."""

    # What these answer is what is left to do at that moment.
    MOMENTARY: ClassVar = {"claim_mails", "expire_entries", "open_scheduled_batch"}
    # Their answer is not used.
    UNUSED: ClassVar = {"add_schedule", "open_batch", "create_invites", "settle_mail"}

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        first = await super().run(script, keys, args)
        second = await super().run(script, keys, args)
        assert second == first or script in self.MOMENTARY | self.UNUSED, script
        return first


def line_settings(**given: Any) -> WaitlistSettings:
    """A waitlist without mail and without proof of work, unless `given` says otherwise."""
    return WaitlistSettings(
        **{
            "waitlist_secret": SECRET,
            "public_url": "https://gate.example",
            "join_proof_cost": 0,
            "joins_per_network_hour": 1_000_000,
            **given,
        }
    )


@pytest.fixture
async def open_line(
    ledger_server: RedisServer, flow_server: RedisServer, clock: Clock
) -> AsyncIterator[Callable[..., Awaitable[Directory]]]:
    """Opens directories with a line, each with connections of its own; closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(*, actor: str = "test", **given: Any) -> Directory:
            return await stack.enter_async_context(
                open_directory(
                    ledger_server.url,
                    flow_server.url,
                    actor=actor,
                    clock=clock,
                    deadline_s=DEADLINE_S,
                    settings=line_settings(**given),
                )
            )

        yield make


@pytest.fixture
async def line(open_line: Callable[..., Awaitable[Directory]]) -> Directory:
    """A directory without mail: every join waits at once."""
    return await open_line()


@pytest.fixture
async def mailed_line(
    open_line: Callable[..., Awaitable[Directory]], mail_server: MailServer
) -> Directory:
    """A directory whose mails go to a real SMTP server."""
    return await open_line(smtp_url=mail_server.url, mail_from="Gate <gate@gate.example>")


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


async def join(directory: Directory, email: str, **given: Any) -> Joined:
    """A place without a proof of work."""
    return await directory.entries.join(
        JoinRequest(email=email, **given), network="192.0.2.1", proof=None
    )


async def confirmed(directory: Directory, email: str, **given: Any) -> str:
    """The owner's ticket of a new place that was confirmed as by the link in its mail."""
    joined = await join(directory, email, **given)
    ticket = directory.signer.read(directory.signer.owner_ticket(joined.entry_id))
    _, owner_ticket = await directory.entries.confirm(ticket)
    return owner_ticket
