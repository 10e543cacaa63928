"""Places over a long life of the line: exact, and never backwards but by the stated rule."""

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.waitlist.conftest import join
from waitlist.directory import Directory
from waitlist.errors import PlaceGone, PlaceRedeemed

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[Directory]]


class Life:
    """Random joins, confirmations, departures, releases and expiries on one line."""

    def __init__(self, line: Directory, clock: Any, seed: int) -> None:
        self.line = line
        self.clock = clock
        self.draw = random.Random(seed)
        self.ids: list[str] = []
        self.joined = 0

    async def join(self) -> None:
        self.joined += 1
        known = self.draw.random() < 0.2 and self.joined > 1
        number = self.draw.randrange(self.joined) if known else self.joined
        self.ids.append((await join(self.line, f"person{number}@example.com")).entry_id)

    async def confirm(self) -> None:
        if self.ids:
            await self.as_owner(self.line.entries.confirm)

    async def leave(self) -> None:
        if self.ids:
            await self.as_owner(self.line.departures.leave)

    async def as_owner(self, call: Callable[[Any], Awaitable[Any]]) -> None:
        ticket = self.line.signer.owner_ticket(self.draw.choice(self.ids))
        with contextlib.suppress(PlaceGone, PlaceRedeemed):
            await call(self.line.signer.read(ticket))

    async def release(self) -> None:
        await self.line.releases.release(self.draw.randint(1, 3))

    async def expire(self) -> None:
        self.clock.advance(self.draw.choice([600, 3600, 86_400]))
        await self.line.departures.expire()

    async def places(self) -> dict[str, int]:
        """People ahead of everybody in line."""
        found: dict[str, int] = {}
        for start in range(0, len(self.ids), 200):
            for entry in await self.line.entries.read_many(self.ids[start : start + 200]):
                if entry is not None and entry.ahead is not None:
                    found[entry.entry_id] = entry.ahead
        return found


@pytest.mark.parametrize("seed", range(3))
async def test_places_are_exact_and_never_go_back(
    open_line: Open, clock: Any, ledger_state: Any, seed: int
) -> None:
    life = Life(await open_line(smtp_url="smtp://127.0.0.1:1"), clock, seed)
    steps = [life.join] * 6 + [life.confirm] * 4 + [life.leave, life.release, life.expire]
    before: dict[str, int] = {}
    for _ in range(150):
        await life.draw.choice(steps)()
        after = await life.places()
        assert sorted(after.values()) == list(range(len(after)))
        assert all(after[each] <= place for each, place in before.items() if each in after)
        before = after
    assert len(before) == ledger_state.client.zcard("fg:{ledger}:line")
    # Nobody has two places, and nobody in line is let in already.
    entries = ledger_state.records("entry")
    held = [e["email"] for e in entries.values() if e["state"] in ("waiting", "invited")]
    assert len(held) == len(set(held))
    in_line = {i for i, e in entries.items() if e["state"] in ("pending", "waiting")}
    assert in_line == before.keys()


async def test_referral_of_somebody_behind_puts_one_back_by_one_place(open_line: Open) -> None:
    line = await open_line(smtp_url="smtp://127.0.0.1:1", referral_places=3)

    async def confirmed(email: str, referral: str = "") -> str:
        joined = await join(line, email, referral=referral)
        owner = line.signer.read(line.signer.owner_ticket(joined.entry_id))
        await line.entries.confirm(owner)
        return joined.entry_id

    ids = [await confirmed(f"person{i}@example.com") for i in range(10)]
    before = {e.entry_id: e.ahead for e in await line.entries.read_many(ids) if e}
    await confirmed("friend@example.com", referral=ids[8])
    after = {e.entry_id: e.ahead for e in await line.entries.read_many(ids) if e}
    moved = {i: (after[i] or 0) - (before[i] or 0) for i in ids if after[i] != before[i]}
    assert moved.pop(ids[8]) in (-2, -3)
    assert set(moved.values()) == {1}
    assert set(moved) <= set(ids[5:8])
