"""Many at once, over several processes' worth of connections: a code makes one account."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.errors import WaitlistError
from waitlist.storage.records import Redemption

pytestmark = pytest.mark.integration

REDEEMERS = 200
# What is raced for is the subject, not how long a busy machine takes over it.
DEADLINE_S = 30.0


@pytest.fixture
async def directories(
    ledger_server: RedisServer, flow_server: RedisServer
) -> AsyncIterator[list[Directory]]:
    """Four directories, each with connections of its own."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_directory(ledger_server.url, flow_server.url, deadline_s=DEADLINE_S)
            )
            for _ in range(4)
        ]


async def outcome(call: Awaitable[Any]) -> str:
    try:
        result = await call
    except WaitlistError as error:
        return error.code
    return "redeemed" if isinstance(result, Redemption) else "revoked"


async def race_for_one_code(directories: list[Directory], round_number: int) -> Counter[str]:
    [invite] = await directories[0].create_invites(1)
    return Counter(
        await asyncio.gather(
            *(
                outcome(
                    directories[i % len(directories)].redeem(
                        invite.code, f"round{round_number}-{i}@example.com"
                    )
                )
                for i in range(REDEEMERS)
            )
        )
    )


async def test_one_code_makes_one_account(directories: list[Directory], ledger_state: Any) -> None:
    rounds = 10
    for number in range(rounds):
        counts = await race_for_one_code(directories, number)
        assert counts == {"redeemed": 1, "code_used": REDEEMERS - 1}
    assert len(ledger_state.records("account")) == rounds
    ledger_state.assert_whole()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_one_code_makes_one_account_a_thousand_times(
    directories: list[Directory], ledger_state: Any
) -> None:
    for number in range(1_000):
        counts = await race_for_one_code(directories, number)
        assert counts == {"redeemed": 1, "code_used": REDEEMERS - 1}
    assert len(ledger_state.records("account")) == 1_000
    ledger_state.assert_whole()


async def test_one_address_gets_one_account_and_the_other_codes_stay_good(
    directories: list[Directory], ledger_state: Any
) -> None:
    invites = await directories[0].create_invites(REDEEMERS)
    spellings = ["ada@example.com", "Ada@example.com", "ADA@EXAMPLE.COM", " ada@example.com "]
    counts = Counter(
        await asyncio.gather(
            *(
                outcome(directories[i % 4].redeem(invite.code, spellings[i % 3 + i // 199]))
                for i, invite in enumerate(invites)
            )
        )
    )
    assert counts == {"redeemed": 1, "email_has_account": REDEEMERS - 1}
    used = [i for i in ledger_state.records("invite").values() if "used_at_ms" in i]
    assert len(used) == 1
    ledger_state.assert_whole()


async def test_withdrawing_a_code_races_with_redeeming_it(
    directories: list[Directory], ledger_state: Any
) -> None:
    """Either there is an account, or the code is withdrawn; never both, never neither."""
    for number in range(40):
        [invite] = await directories[0].create_invites(1)
        calls: list[Awaitable[Any]] = [
            directories[1].redeem(invite.code, f"person{number}@example.com"),
            directories[2].revoke_invite(invite.code),
        ]
        outcomes = set(await asyncio.gather(*map(outcome, calls[:: (-1) ** number])))
        assert outcomes in ({"redeemed", "code_used"}, {"code_revoked", "revoked"})
    ledger_state.assert_whole()


async def test_revoking_a_key_many_times_at_once_is_recorded_once(
    directories: list[Directory], ledger_state: Any
) -> None:
    [invite] = await directories[0].create_invites(1)
    redemption = await directories[0].redeem(invite.code, "ada@example.com")
    revocations = await asyncio.gather(
        *(directories[i % 4].revoke_key(redemption.key_id) for i in range(50))
    )
    assert len({revocation and revocation.revoked_at for revocation in revocations}) == 1
    assert len(ledger_state.audit("key_revoked")) == 1
