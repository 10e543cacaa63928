"""The ledger and flow gone, slow, restarted, full, foreign: what is told and what is kept."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

import pytest
import redis

from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.errors import CodeUsed, LedgerIncompatible, LedgerUnavailable
from waitlist.holders.revocation_feed import RevocationFeed
from waitlist.storage.records import Invite, Redemption

pytestmark = pytest.mark.integration

T = TypeVar("T")


async def has_become(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def until_answered(call: Callable[[], Awaitable[T]]) -> T:
    """Goes on while short deadlines pass on a busy machine; the test's own limit ends it."""
    while True:
        try:
            return await call()
        except LedgerUnavailable:
            await asyncio.sleep(0.05)


async def redeem_until_decided(
    directory: Directory, invite: Invite, email: str
) -> Redemption | None:
    """Goes on as a person would; None when an attempt whose answer was lost had used the code."""
    while True:
        try:
            return await directory.redeem(invite.code, email)
        except LedgerUnavailable:
            await asyncio.sleep(0.05)
        except CodeUsed:
            return None


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_kill_of_the_ledger_loses_no_acknowledged_redemption(
    directory: Directory, ledger_server: RedisServer, ledger_state: Any, seed: int
) -> None:
    draw = random.Random(seed)
    invites = await directory.create_invites(600)
    acknowledged: dict[str, Redemption] = {}
    undecided: set[str] = set()
    queue = list(enumerate(invites))

    async def redeem_from_queue() -> None:
        while queue:
            number, invite = queue.pop()
            email = f"person{number}@example.com"
            redemption = await redeem_until_decided(directory, invite, email)
            if redemption is None:
                undecided.add(email)
            else:
                acknowledged[email] = redemption

    async def kill_and_restart() -> None:
        for _ in range(4):
            goal = len(acknowledged) + draw.randint(20, 150)

            def is_far_enough(goal: int = goal) -> bool:
                return len(acknowledged) >= goal or not queue

            await has_become(is_far_enough)
            ledger_server.kill()
            await asyncio.to_thread(ledger_server.start)

    await asyncio.gather(kill_and_restart(), *(redeem_from_queue() for _ in range(20)))
    ledger_server.kill()  # so that what is looked at now is what the disk holds
    ledger_server.start()

    ledger_state.assert_whole()
    accounts = {a["email"]: id_ for id_, a in ledger_state.records("account").items()}
    assert accounts.keys() == acknowledged.keys() | undecided
    assert len(accounts) == len(invites)
    for email, redemption in acknowledged.items():
        assert accounts[email] == redemption.account_id
        record = await directory.find_key(redemption.api_key)
        assert record is not None and record.key_id == redemption.key_id


async def test_short_restart_of_the_ledger_is_not_noticed(
    directory: Directory, ledger_server: RedisServer
) -> None:
    """Every connection is broken and every script forgotten; each call makes that good."""
    invites = await directory.create_invites(100)
    for half in (invites[:50], invites[50:]):
        await asyncio.gather(
            *(directory.redeem(i.code, f"{i.invite_id}@example.com") for i in half)
        )
        ledger_server.kill()
        ledger_server.restart()
    assert len([listing async for listing in directory.list_keys()]) == 100


async def test_script_cache_that_was_flushed_is_filled_again(
    directory: Directory, ledger_state: Any
) -> None:
    invites = await directory.create_invites(1)
    ledger_state.client.script_flush()
    await directory.redeem(invites[0].code, "ada@example.com")


async def test_answer_that_was_lost_is_given_again(
    ledger_server: RedisServer, flow_server: RedisServer, ledger_state: Any
) -> None:
    """The ledger redeems, the connection breaks before its answer, the call is sent again."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(AnswerLosingProxy(ledger_server))
        directory = await stack.enter_async_context(
            open_directory(proxy.url, flow_server.url, deadline_s=30.0)
        )
        [invite] = await directory.create_invites(1)
        proxy.lose_next_answer_to(b"inv_")
        redemption = await directory.redeem(invite.code, "ada@example.com")
        assert proxy.answers_lost == 1
        assert await directory.find_key(redemption.api_key) is not None
        proxy.lose_next_answer_to(b"invite:inv_")
        await directory.create_invites(5)
        assert proxy.answers_lost == 2
    ledger_state.assert_whole()
    assert len(ledger_state.records("invite")) == 6
    assert [e["count"] for e in ledger_state.audit("invites_created")] == ["1", "5"]


async def test_ledger_that_is_gone_is_told_with_what_to_do(
    directory: Directory, ledger_server: RedisServer
) -> None:
    [invite] = await directory.create_invites(1)
    ledger_server.kill()
    for call in (
        directory.ping(),
        directory.create_invites(1),
        directory.redeem(invite.code, "ada@example.com"),
        directory.revoke_key("key_1"),
        directory.revoke_invite(invite.code),
        anext(directory.list_keys()),
    ):
        with pytest.raises(LedgerUnavailable, match="cannot be reached") as raised:
            await call
        assert raised.value.status_code == 503
        assert "FLOODGATE_LEDGER_URL" in raised.value.hint
        assert ledger_server.password not in str(raised.value)
        assert str(ledger_server.port) not in raised.value.message
    ledger_server.start()
    await directory.redeem(invite.code, "ada@example.com")


async def test_paused_ledger_is_told_by_the_deadline_and_recovers(
    ledger_server: RedisServer, flow_server: RedisServer, ledger_state: Any
) -> None:
    async with open_directory(ledger_server.url, flow_server.url, deadline_s=0.3) as directory:
        invites = await until_answered(lambda: directory.create_invites(2))
        ledger_server.pause()
        for call in (
            directory.redeem(invites[0].code, "ada@example.com"),
            directory.ping(),
            directory.create_invites(1),
        ):
            with pytest.raises(LedgerUnavailable, match=r"did not answer within 0\.3 s"):
                await call
        ledger_server.resume()
        await redeem_until_decided(directory, invites[1], "eve@example.com")
    assert "eve@example.com" in {a["email"] for a in ledger_state.records("account").values()}
    ledger_state.assert_whole()


async def test_many_callers_of_a_paused_ledger_are_all_told(
    ledger_server: RedisServer, flow_server: RedisServer
) -> None:
    """More callers than connections: those who wait for a connection have the same deadline."""
    async with open_directory(ledger_server.url, flow_server.url, deadline_s=0.3) as directory:
        await until_answered(directory.ping)
        ledger_server.pause()
        results = await asyncio.gather(
            *(directory.revoke_key(f"key_{i}") for i in range(100)), return_exceptions=True
        )
        assert {type(result) for result in results} == {LedgerUnavailable}
        ledger_server.resume()
        assert await until_answered(lambda: directory.revoke_key("key_1")) is None


async def test_callers_who_give_up_leave_the_directory_usable(directory: Directory) -> None:
    invites = await directory.create_invites(60)
    for i, invite in enumerate(invites[:50]):
        task = asyncio.create_task(directory.redeem(invite.code, f"person{i}@example.com"))
        for _ in range(i % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for i, invite in enumerate(invites[50:]):
        redemption = await directory.redeem(invite.code, f"late{i}@example.com")
        record = await directory.find_key(redemption.api_key)
        assert record is not None and record.key_id == redemption.key_id


async def test_wrong_password_is_told(ledger_server: RedisServer, flow_server: RedisServer) -> None:
    url = ledger_server.url.replace(ledger_server.password, "wrong-secret")
    async with open_directory(url, flow_server.url, deadline_s=30.0) as directory:
        with pytest.raises(LedgerUnavailable, match="password") as raised:
            await directory.ping()
    assert "wrong-secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://:secret@127.0.0.1:1", "redis://:secret@127.0.0.1:port/0"]
)
async def test_url_of_no_redis_is_told_without_its_password(
    flow_server: RedisServer, ledger_server: RedisServer, url: str
) -> None:
    with pytest.raises(LedgerUnavailable, match="FLOODGATE_LEDGER_URL") as raised:
        async with open_directory(url, flow_server.url):
            pass
    assert "secret" not in str(raised.value)
    with pytest.raises(ValueError, match="FLOODGATE_FLOW_URL") as raised_by_flow:
        async with open_directory(ledger_server.url, url):
            pass
    assert "secret" not in str(raised_by_flow.value)


async def test_ledger_out_of_memory_refuses_and_keeps_the_code_good(
    directory: Directory, ledger_state: Any
) -> None:
    [invite] = await directory.create_invites(1)
    ledger_state.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(LedgerUnavailable, match="memory"):
            await directory.redeem(invite.code, "ada@example.com")
    finally:
        ledger_state.client.config_set("maxmemory", 0)
    await directory.redeem(invite.code, "ada@example.com")
    ledger_state.assert_whole()


async def test_ledger_of_another_version_is_left_alone(
    directory: Directory, ledger_state: Any
) -> None:
    ledger_state.client.set("fg:{ledger}:schema", "999")
    with pytest.raises(LedgerIncompatible, match="999"):
        await directory.create_invites(1)
    with pytest.raises(LedgerIncompatible):
        await directory.ping()
    assert ledger_state.client.dbsize() == 1


async def test_new_ledger_gets_our_version(directory: Directory, ledger_state: Any) -> None:
    await directory.ping()
    assert ledger_state.client.get("fg:{ledger}:schema") == "2"


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_revocation_holds_though_flow_is_gone(
    ledger_server: RedisServer,
    flow_server: RedisServer,
    flow_client: redis.Redis,
    fault: str,
) -> None:
    async with open_directory(ledger_server.url, flow_server.url, deadline_s=0.5) as directory:
        [invite] = await until_answered(lambda: directory.create_invites(1))
        redemption = await redeem_until_decided(directory, invite, "ada@example.com")
        assert redemption is not None
        {"kill": flow_server.kill, "pause": flow_server.pause}[fault]()
        revocation = await until_answered(lambda: directory.revoke_key(redemption.key_id))
        assert revocation is not None
        assert not revocation.tombstone_written
        assert "flow Redis" in (revocation.tombstone_error or "")
        assert flow_server.password not in (revocation.tombstone_error or "")
        record = await until_answered(lambda: directory.find_key(redemption.api_key))
        assert record is not None and record.revoked
        flow_server.make_ready()
        tombstones = f"fg:revoked:{{{redemption.account_id}}}"
        while not flow_client.sismember(tombstones, redemption.key_id):
            await until_answered(lambda: directory.revoke_key(redemption.key_id))


async def test_feed_tells_revocations_and_ends_with_the_ledger(
    directory: Directory, ledger_server: RedisServer
) -> None:
    [invite] = await directory.create_invites(1)
    redemption = await directory.redeem(invite.code, "ada@example.com")
    feed = RevocationFeed(ledger_server.url, deadline_s=30.0)
    key_ids = feed.key_ids()
    first = asyncio.ensure_future(anext(key_ids))
    assert await told_of_revocation(directory, redemption.key_id, first) == redemption.key_id
    ledger_server.kill()
    with pytest.raises(LedgerUnavailable):
        while True:  # it may have been announced more than once
            assert await anext(key_ids) == redemption.key_id
    ledger_server.start()
    second = asyncio.ensure_future(next_of(feed))
    assert await told_of_revocation(directory, redemption.key_id, second) == redemption.key_id
    await feed.close()


async def told_of_revocation(directory: Directory, key_id: str, told: "asyncio.Future[str]") -> str:
    """Revokes until the feed tells of it: what is announced before it listens is lost, and other
    listeners on the same ledger (a gateway that earlier tests share) hide when it begins to."""
    while not told.done():
        await directory.revoke_key(key_id)
        await asyncio.wait({told}, timeout=0.05)
    return told.result()


async def next_of(feed: RevocationFeed) -> str:
    """The next id, begun anew as often as the feed ends: a ledger that was killed may fail once."""
    while True:
        async with aclosing(feed.key_ids()) as key_ids:
            try:
                return await anext(key_ids)
            except LedgerUnavailable:
                await asyncio.sleep(0.02)


class AnswerLosingProxy:
    """Stands before the ledger and can cut a connection after a request, before its answer."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._marker: bytes | None = None
        self.answers_lost = 0

    def lose_next_answer_to(self, marker: bytes) -> None:
        """The next request that holds these bytes is executed, its answer is thrown away."""
        self._marker = marker

    @property
    def url(self) -> str:
        port = self._listener.sockets[0].getsockname()[1]
        return self._server.url.replace(f":{self._server.port}/", f":{port}/")

    async def __aenter__(self) -> "AnswerLosingProxy":
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer at a time, as the directory's connections use it."""
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            while request := await reader.read(1 << 20):
                downstream.write(request)
                answer = await upstream.read(1 << 20)
                if (
                    self._marker is not None
                    and self._marker in request
                    and b"NOSCRIPT" not in answer
                ):
                    self._marker = None
                    self.answers_lost += 1
                    return
                writer.write(answer)
        finally:
            downstream.close()
            writer.close()
