"""Invites, redemptions and first requests as a real audit tells of them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.waitlist.conftest import TAG, Clock
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.release.activation_learner import ActivationLearner
from waitlist.release.first_requests import FirstRequests
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.storage.ledger import Ledger

pytestmark = pytest.mark.integration

HOUR_S = 3600
LIFE_S = 7 * 86_400.0


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[Ledger]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield ledger
    await ledger.close()


async def invite_from_the_line(
    directory: Directory, ledger_state: Any, clock: Clock, count: int
) -> list[Any]:
    """Invites as a release of the line leaves them, with its entry in the audit."""
    invites = await directory.create_invites(count)
    for invite in invites:
        ledger_state.client.hset(f"{TAG}invite:{invite.invite_id}", "entry", "wl_1")
    ledger_state.client.xadd(
        f"{TAG}audit",
        {"action": "people_invited", "at_ms": round(clock() * 1000), "count": count},
    )
    return invites


async def test_both_steps_are_counted_by_age(
    directory: Directory, ledger: Ledger, ledger_state: Any, clock: Clock
) -> None:
    clock.now_s -= clock.now_s % HOUR_S
    learner = ActivationLearner(ledger, invite_life_s=LIFE_S)
    first_requests = FirstRequests(ActingLedger(ledger, clock=clock, actor="test"))
    invites = await invite_from_the_line(directory, ledger_state, clock, 10)
    clock.advance(2 * HOUR_S)
    soon = [await directory.redeem(i.code, f"{i.invite_id}@example.com") for i in invites[:4]]
    by_hand = await directory.create_invites(1)
    await directory.redeem(by_hand[0].code, "ada@example.com")
    clock.advance(5 * HOUR_S)
    at_ms = round(clock() * 1000)
    assert await first_requests.note({r.account_id: at_ms for r in soon[:3]}) == 3
    assert await first_requests.note({r.account_id: at_ms + 5 for r in soon[:3]}) == 0
    assert await first_requests.note({"acct_unknown": at_ms}) == 0

    await learner.read_on()
    invited, redeemed = learner.counts(clock())
    assert learner.people_in == 3
    assert invited.moved == (0, 4, 0, 0, 0, 0, 0, 0, 0)
    assert invited.waiting == (0, 0, 0, 6, 0, 0, 0, 0, 0)
    assert redeemed.moved == (0, 0, 3, 0, 0, 0, 0, 0, 0)
    assert redeemed.waiting == (0, 0, 2, 0, 0, 0, 0, 0, 0)  # one of them had a code by hand


async def test_next_leader_goes_on_from_what_was_learned(
    directory: Directory, ledger: Ledger, ledger_state: Any, clock: Clock
) -> None:
    first = ActivationLearner(ledger, invite_life_s=LIFE_S)
    invites = await invite_from_the_line(directory, ledger_state, clock, 6)
    await directory.redeem(invites[0].code, "ada@example.com")
    await first.read_on()
    first.counts(clock())
    learned = first.to_json()
    clock.advance(HOUR_S)
    await directory.redeem(invites[1].code, "eve@example.com")
    await first.read_on()

    second = ActivationLearner(ledger, invite_life_s=LIFE_S)
    second.restore(learned)
    await second.read_on()
    assert second.counts(clock()) == first.counts(clock())
    assert second.to_json() == first.to_json()


async def test_weeks_later_only_totals_are_kept(
    directory: Directory, ledger: Ledger, ledger_state: Any, clock: Clock
) -> None:
    learner = ActivationLearner(ledger, invite_life_s=LIFE_S)
    invites = await invite_from_the_line(directory, ledger_state, clock, 100)
    await directory.redeem(invites[0].code, "ada@example.com")
    await learner.read_on()
    clock.advance(30 * 86_400)
    invited, redeemed = learner.counts(clock())
    assert (sum(invited.moved), invited.people_waiting) == (1, 0)
    assert (sum(redeemed.moved), redeemed.people_waiting) == (0, 0)
    again, _ = learner.counts(clock())
    assert again == invited
    assert '"people": {}' in learner.to_json()
