import asyncio

import pytest

from gateway.auth import Authenticator, Caller, DirectoryUnavailable
from gateway.errors import AuthenticationFailed, Unavailable

ALICE = Caller("key_1", "acct_1", "free")


class Keys:
    """Keys in memory, counting look-ups."""

    def __init__(self) -> None:
        self.callers = {"fg-good": ALICE}
        self.gone = False
        self.lookups = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def is_well_formed(self, api_key: str) -> bool:
        return api_key.startswith("fg-")

    async def find(self, api_key: str) -> Caller | None:
        self.lookups += 1
        await self.may_answer.wait()
        if self.gone:
            raise DirectoryUnavailable("gone")
        return self.callers.get(api_key)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    return Authenticator(keys, cache_s=5, stale_s_max=300, clock=clock)


def bearer(api_key: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + api_key.encode())]


async def refused(authenticator: Authenticator, headers: list[tuple[bytes, bytes]]) -> str:
    with pytest.raises(AuthenticationFailed) as refusal:
        await authenticator.authenticate(headers)
    return refusal.value.code


async def test_a_key_is_found_in_either_header(authenticator: Authenticator) -> None:
    assert await authenticator.authenticate(bearer("fg-good")) == ALICE
    assert await authenticator.authenticate([(b"x-api-key", b"fg-good")]) == ALICE


async def test_each_wrong_key_has_its_own_code(authenticator: Authenticator, keys: Keys) -> None:
    assert await refused(authenticator, []) == "missing_api_key"
    assert await refused(authenticator, [(b"authorization", b"Bearer ")]) == "missing_api_key"
    assert await refused(authenticator, [(b"authorization", b"Basic x")]) == "missing_api_key"
    assert await refused(authenticator, bearer("sk-typo")) == "malformed_api_key"
    assert await refused(authenticator, [(b"x-api-key", b"\xff\xfe")]) == "malformed_api_key"
    assert keys.lookups == 0
    assert await refused(authenticator, bearer("fg-unknown")) == "invalid_api_key"


async def test_a_found_key_is_trusted_for_its_time(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    for _ in range(3):
        await authenticator.authenticate(bearer("fg-good"))
    assert keys.lookups == 1
    clock.now = 5.1
    await authenticator.authenticate(bearer("fg-good"))
    assert keys.lookups == 2


async def test_a_revocation_pushed_to_the_worker_ends_the_trust(
    authenticator: Authenticator, keys: Keys
) -> None:
    await authenticator.authenticate(bearer("fg-good"))
    keys.callers.clear()
    authenticator.forget({"key_1"})
    assert await refused(authenticator, bearer("fg-good")) == "invalid_api_key"


async def test_known_keys_go_on_while_the_ledger_is_gone_and_not_for_ever(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.authenticate(bearer("fg-good"))
    keys.gone = True
    clock.now = 299.0
    assert await authenticator.authenticate(bearer("fg-good")) == ALICE
    clock.now = 301.0
    with pytest.raises(Unavailable) as refusal:
        await authenticator.authenticate(bearer("fg-good"))
    assert refusal.value.code == "ledger_unavailable"
    assert refusal.value.headers["retry-after"]


async def test_an_unknown_key_gets_503_not_401_while_the_ledger_is_gone(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.gone = True
    with pytest.raises(Unavailable):
        await authenticator.authenticate(bearer("fg-other"))


async def test_requests_with_one_key_share_a_lookup(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.may_answer.clear()
    calls = [asyncio.create_task(authenticator.authenticate(bearer("fg-good"))) for _ in range(9)]
    while not keys.lookups:
        await asyncio.sleep(0)
    calls[0].cancel()  # the one whose lookup it is hangs up
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    keys.may_answer.set()
    assert await asyncio.gather(*calls[1:]) == [ALICE] * 8
    assert keys.lookups == 1


async def test_a_lookup_that_fails_fails_for_all_and_is_tried_again(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.gone = True
    keys.may_answer.clear()
    calls = [asyncio.create_task(authenticator.authenticate(bearer("fg-good"))) for _ in range(3)]
    while not keys.lookups:
        await asyncio.sleep(0)
    keys.may_answer.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    keys.gone = False
    assert await authenticator.authenticate(bearer("fg-good")) == ALICE
    assert keys.lookups == 2
