"""kill -9 of workers, whole gateways and the ledger while people join and redeem over HTTP.

Callers send again, with their Idempotency-Key, until they are answered; besides, some answers are
lost on their way: a kill rarely falls between the commit and the answer. Afterwards each is there
once: nobody has two places or two accounts, no key is lost, and nobody who began to join after
somebody else was answered stands before them.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import altcha
import httpx
import pytest
import redis

from tests.gateway_process import GatewayProcess
from tests.integration.gateway.test_gateway_waitlist import SECRET
from tests.integration.gateway.test_gateway_waitlist import operators as operators
from tests.integration.waitlist.conftest import LedgerState
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger
from waitlist.upkeep.ledger_check import check_ledger

pytestmark = pytest.mark.integration

AT_ONCE = 16
# An answer in so many is lost.
LOST_OF = 20
KINDS = ("worker", "gateway", "ledger")


@dataclass
class Crowd:
    """People who join, and others who redeem, each until answered; and what they were answered."""

    url: str
    codes: list[str]
    draw: random.Random
    solves: bool
    began: dict[str, int] = field(default_factory=dict)
    """Entry id -> when its first request was sent, in counts of all that happened."""
    answered: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """API key -> account id."""
    sent_again: Counter[str] = field(default_factory=Counter)
    _happened: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def decided(self) -> int:
        return len(self.answered) + len(self.keys)

    async def run(self, count: int) -> None:
        work = [(kind, number) for kind in ("join", "redeem") for number in range(count)]
        self.draw.shuffle(work)

        async def caller() -> None:
            async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
                while work:
                    kind, number = work.pop()
                    await (self._join if kind == "join" else self._redeem)(client, number)

        async with asyncio.TaskGroup() as callers:
            for _ in range(AT_ONCE):
                callers.create_task(caller())

    async def _join(self, client: httpx.AsyncClient, number: int) -> None:
        body = {"email": f"joiner{number}@example.com"}
        if self.solves:
            answer = await self._until_answered(client, "GET", "/waitlist/challenge")
            challenge = altcha.Challenge.from_dict(answer.json())
            solution = altcha.solve_challenge(challenge)
            assert solution is not None
            body["altcha"] = altcha.Payload(challenge, solution).to_base64()
        began = next(self._happened)
        answer = await self._until_answered(client, "POST", "/waitlist/join", body)
        assert answer.status_code == 201, answer.text
        entry_id = answer.json()["referral_code"]
        self.began[entry_id], self.answered[entry_id] = began, next(self._happened)

    async def _redeem(self, client: httpx.AsyncClient, number: int) -> None:
        order = {"code": self.codes[number], "email": f"redeemer{number}@example.com"}
        answer = await self._until_answered(client, "POST", "/invites/redeem", order)
        assert answer.status_code == 201, answer.text
        self.keys[answer.json()["api_key"]] = answer.json()["account_id"]

    async def _until_answered(
        self, client: httpx.AsyncClient, method: str, path: str, body: Any = None
    ) -> httpx.Response:
        headers = {"idempotency-key": str(UUID(int=self.draw.getrandbits(128)))}
        while True:
            try:
                answer = await client.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                answer = None
            lost = self.draw.randrange(LOST_OF) == 0
            if answer is not None and answer.status_code != 503 and not lost:
                return answer
            self.sent_again[path] += 1
            await asyncio.sleep(0.05)


async def kill_at_random(
    gate: GatewayProcess, ledger: RedisServer, crowd: Crowd, count: int, kills: int
) -> None:
    """As often of each kind, each time after another random number of answers."""
    kinds = [kind for kind, _ in zip(itertools.cycle(KINDS), range(kills), strict=False)]
    crowd.draw.shuffle(kinds)
    goals = sorted(crowd.draw.sample(range(1, 2 * count * 9 // 10), kills))
    for kind, goal in zip(kinds, goals, strict=True):
        while crowd.decided < goal:
            await asyncio.sleep(0.002)
        if kind == "ledger":
            ledger.kill()
            await asyncio.to_thread(ledger.start)
        elif kind == "gateway":
            await asyncio.to_thread(gate.kill)
            await gate.start()
        else:
            await gate.until_ready()
            crowd.draw.choice(gate.workers()).kill()


async def assert_each_once(
    crowd: Crowd, gate: GatewayProcess, ledger: RedisServer, count: int
) -> None:
    ledger.kill()  # so that what is looked at now is what the disk holds
    ledger.start()
    with redis.Redis.from_url(ledger.url, decode_responses=True) as client:
        state = LedgerState(client)
        state.assert_whole()
        entries = state.records("entry")
        places = dict(client.zrange(redis_keys.LINE, 0, -1, withscores=True))
    assert entries.keys() == crowd.answered.keys() == places.keys()
    assert len({entry["email"] for entry in entries.values()}) == len(entries) == count
    assert_in_order(crowd, places)
    assert len(crowd.keys) == len(set(crowd.keys.values())) == count
    await gate.until_ready()
    async with httpx.AsyncClient(base_url=gate.url, timeout=60) as http:
        for api_key, account_id in crowd.keys.items():
            answer = await http.get("/keys", headers={"x-api-key": api_key})
            assert (answer.status_code, answer.json().get("account_id")) == (200, account_id)
    checked = Ledger(ledger.url, deadline_s=30.0)
    assert [finding async for finding in check_ledger(checked)] == []
    await checked.close()


def assert_in_order(crowd: Crowd, places: dict[str, float]) -> None:
    """Who began after somebody's answer stands behind that one."""
    happened = sorted(
        [(at, "began", entry_id) for entry_id, at in crowd.began.items()]
        + [(at, "answered", entry_id) for entry_id, at in crowd.answered.items()]
    )
    last_answered = 0.0
    for _, what, entry_id in happened:
        if what == "began":
            assert places[entry_id] > last_answered
        else:
            last_answered = max(last_answered, places[entry_id])


async def run_with_kills(
    start_gateway: Callable[..., GatewayProcess],
    operators: Directory,
    ledger: RedisServer,
    *,
    count: int,
    kills: int,
    proof_cost: int,
    seed: int,
) -> None:
    settings = {
        "waitlist_secret": SECRET,
        "join_proof_cost": proof_cost,
        "joins_per_network_hour": 1_000_000,
        "workers": 2,
    }
    codes = [invite.code for invite in await operators.create_invites(count)]
    async with start_gateway(**settings) as gate:
        crowd = Crowd(gate.url, codes, random.Random(seed), solves=proof_cost > 0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.run(count))
            tasks.create_task(kill_at_random(gate, ledger, crowd, count, kills))
        assert crowd.sent_again["/waitlist/join"] > 0
        assert crowd.sent_again["/invites/redeem"] > 0
        await assert_each_once(crowd, gate, ledger, count)


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_whatever_is_killed(
    start_gateway: Callable[..., GatewayProcess], operators: Directory, ledger_server: RedisServer
) -> None:
    """With proofs of work, each good once: a lost answer costs no second one."""
    await run_with_kills(
        start_gateway, operators, ledger_server, count=300, kills=9, proof_cost=1, seed=4
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_nothing_acknowledged_is_lost_in_ten_thousand_joins_and_redemptions(
    start_gateway: Callable[..., GatewayProcess], operators: Directory, ledger_server: RedisServer
) -> None:
    await run_with_kills(
        start_gateway, operators, ledger_server, count=10_000, kills=60, proof_cost=0, seed=5
    )
