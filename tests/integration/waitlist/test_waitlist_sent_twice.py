"""Every script may be executed twice for one call: here each of them is, in a whole life."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.waitlist.conftest import (
    DEADLINE_S,
    Clock,
    TwiceLedger,
    confirmed,
    join,
    line_settings,
)
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.errors import CodeUsed, EmailHasAccount
from waitlist.holders.revocations import Tombstones
from waitlist.proofs import tokens
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.storage.ledger import _SCRIPTS
from waitlist.upkeep.chores import work_on_line

pytestmark = pytest.mark.integration


# Automatic release, the ledger's tools, and the usage history.
_ELSEWHERE = re.compile(
    "^check_|^tally_|migrat|release_|_usage$|^begin_schema$|^read_(activations|text)$"
    "|^note_first_requests$|^read_latest_people$|^read_field$"
)


class CountingLedger(TwiceLedger):
    """Notes which scripts were run."""

    def __init__(self, url: str) -> None:
        super().__init__(url, deadline_s=DEADLINE_S)
        self.scripts: set[str] = set()

    async def run(self, script: str, keys: Any, args: Any) -> Any:
        self.scripts.add(script)
        return await super().run(script, keys, args)


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[CountingLedger]:
    ledger = CountingLedger(ledger_server.url)
    yield ledger
    await ledger.close()


@pytest.fixture
async def twice(
    ledger: CountingLedger, flow_server: RedisServer, clock: Clock
) -> AsyncIterator[Callable[..., Directory]]:
    """Directories all of whose calls reach the ledger twice."""
    tombstones = Tombstones(flow_server.url, deadline_s=DEADLINE_S)

    def make(**given: Any) -> Directory:
        acting = ActingLedger(ledger, clock=clock, actor="test")
        return Directory(acting, tombstones, line_settings(**given), clock=clock)

    yield make
    await tombstones.close()


async def in_line(directory: Directory) -> None:
    """Joining, referring, confirming, leaving, mails, pauses."""
    ada = directory.signer.read(await confirmed(directory, "ada@example.com"))
    for name in ("bob", "cyd"):
        await confirmed(directory, f"{name}@example.com", referral=ada.entry_id)
    assert (await directory.entries.read(ada.entry_id)).referred == 2
    idle = await join(directory, "idle@example.com")
    assert idle.ahead == 3
    eve = directory.signer.read(await confirmed(directory, "eve@example.com"))
    assert await directory.departures.erase(eve) == "left"
    assert await directory.overview.pause("joining", paused=True)
    assert await directory.overview.pause("joining", paused=False)
    assert (await directory.overview.line()).in_line == 4
    while await directory.delivery.deliver_due():
        pass


async def let_in(directory: Directory, clock: Clock) -> str:
    """Batches, schedules, expiry. Returns a redeemed account's id."""
    batch = await directory.releases.release(1)
    assert batch.released == 1
    ids = [e.entry_id async for e in directory.exports.entries() if e.state == "invited"]
    email = (await directory.entries.read(ids[0])).email or ""
    code = directory.signer.code(ids[0], batch.batch_id)
    redemption = await directory.redeem(code, email, idempotency_key="once")
    again = await directory.redeem(code, email, idempotency_key="once")
    assert again == redemption
    assert again.api_key == redemption.api_key
    await directory.schedules.add(directory.now() + timedelta(minutes=1), 1)
    dropped = await directory.schedules.add(directory.now() + timedelta(days=1), 1)
    await directory.schedules.drop(dropped)
    clock.advance(60)
    await work_on_line(directory)
    assert (await directory.overview.line()).invited == 1
    clock.advance(8 * 86_400)
    await work_on_line(directory)
    assert (await directory.overview.line()).invited == 0
    return redemption.account_id


async def as_account(directory: Directory, account_id: str) -> None:
    """Keys, invites to hand on, plan, the branch."""
    made = await directory.keys.make(account_id, name="ci")
    rotated = await directory.keys.rotate(account_id, made.key_id, overlap_s=60)
    assert len(await directory.keys.of_account(account_id)) == 3
    assert await directory.keys.revoke(rotated.key_id) is not None
    await directory.accounts.set_plan(account_id, "plus")
    await directory.accounts.grant_invites(account_id, 2)
    invite, left = await directory.invites.share(account_id)
    assert left == 1
    with pytest.raises(EmailHasAccount):  # refused, and counted, once
        email = (await directory.accounts.read(account_id)).email or ""
        await directory.redeem(invite.code, email, network="192.0.2.1")
    guest = await directory.redeem(invite.code, "guest@example.com")
    assert (await directory.accounts.read(account_id)).guests == 1
    done = await directory.accounts.revoke_branch(account_id)
    assert done.account_ids == (account_id, guest.account_id)
    assert [key async for key in directory.list_keys()]


async def as_operator(directory: Directory) -> None:
    """Campaigns, codes, operators' keys, search, audit, import."""
    await directory.campaigns.add("press")
    await directory.campaigns.pause("press", paused=True)
    await directory.campaigns.pause("press", paused=False)
    [many] = await directory.campaigns.make_codes("press", 1, uses=2)
    await directory.redeem(many.code, "press1@example.com")
    await directory.redeem(many.code, "press2@example.com")
    with pytest.raises(CodeUsed):
        await directory.redeem(many.code, "press3@example.com")
    campaign = await directory.campaigns.read("press")
    assert (campaign.codes, campaign.redeemed) == (1, 2)
    await directory.campaigns.make_codes("press", 2)
    assert await directory.invites.revoke_campaign("press") == 2
    [single] = await directory.create_invites(1)
    await directory.revoke_invite(single.code)
    admin = await directory.admins.add("root", "owner")
    await directory.admins.authorise(admin.admin_key, "owner")
    await directory.admins.revoke(admin.admin_id)
    assert await directory.replica_pins.set("m", 2)
    assert await directory.replica_pins.all() == {"m": 2}
    assert await directory.replica_pins.set("m", None)
    assert (await directory.overview.find_address("press1@example.com"))[1]
    rows = [{"email": f"imported{i}@example.com"} for i in range(250)]
    assert [p.rows async for p in directory.imports.run("f" * 64, rows)] == [100, 200, 250]
    progress = await directory.imports.progress("f" * 64)
    assert (progress.rows, progress.added) == (250, 250)
    held = await directory.outbox.held()
    await directory.outbox.requeue(held[0].mail_id)
    await directory.delivery.deliver_due()
    await directory.outbox.delivered(held[0].mail_id)


async def test_whole_life_with_every_script_sent_twice(
    twice: Callable[..., Directory], ledger: CountingLedger, clock: Clock, ledger_state: Any
) -> None:
    # Nobody answers: mails are tried again.
    mailed = twice(smtp_url="smtp://127.0.0.1:1", refusals_per_network_hour=1)
    await in_line(mailed)
    account_id = await let_in(mailed, clock)
    await as_account(mailed, account_id)
    plain = twice()
    await join(plain, "last@example.com")
    await plain.releases.release(1)
    await plain.delivery.deliver_due()
    await as_operator(plain)
    assert (await plain.find_key(tokens.new_api_key())) is None
    await plain.releases.close(await plain.releases.open(10), "not wanted")
    audit = [entry async for entry in plain.overview.audit()]
    # Whatever there is of scripts was part of it, but for what has tests of its own.
    assert ledger.scripts == {name for name in _SCRIPTS if not _ELSEWHERE.search(name)}
    once = [
        (entry.fields["action"], entry.fields.get("entry_id") or entry.fields.get("key_id"))
        for entry in audit
        if entry.fields["action"] in ("entry_left", "entry_erased", "key_made", "key_rotated")
    ]
    assert len(once) == len(set(once)) == 4
    [first, second] = ledger_state.audit("key_rotated") + ledger_state.audit("account_revoked")[:1]
    assert first["at_ms"] <= second["at_ms"]
