"""Automatic release with real processes that are killed: one leader, no batch lost or doubled."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Container, Iterator
from typing import Any

import pytest

from tests.redis_server import RedisServer
from tests.release_process import CAPACITY, LET_IN, TIMES, WAITING
from waitlist.errors import GaugeUnavailable
from waitlist.release.activation_learner import ActivationLearner
from waitlist.release.release_controller import ControllerTimes, ReleaseController, ServingLoad
from waitlist.release.release_record import RecordedDecision, ReleaseControl, describe
from waitlist.release.release_sizing import NewcomerUse, SizingPolicy
from waitlist.release.release_store import ReleaseStore
from waitlist.storage.ledger import Ledger

pytestmark = pytest.mark.integration

LEASE = "fg:{ledger}:release-lease"
NOON_S = 1_794_916_800.0  # 2026-11-17 12:00 UTC


async def has_become(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


class Processes:
    """Controllers as processes of their own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, die_at: str = "") -> str:
        """Starts one; returns the name under which it holds the lease."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.release_process", self._url, die_at],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        holder = process.stdout.readline().strip()
        self.running[holder] = process
        return holder

    def kill(self, holder: str) -> None:
        process = self.running.pop(holder)
        process.kill()
        self._close(process)

    def wait(self, holder: str) -> int:
        process = self.running.pop(holder)
        self._close(process)
        return process.returncode

    def stop_all(self) -> None:
        for holder in list(self.running):
            self.kill(holder)

    def _close(self, process: "subprocess.Popen[str]") -> None:
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def processes(ledger_server: RedisServer) -> Iterator[Processes]:
    processes = Processes(ledger_server.url)
    yield processes
    processes.stop_all()


@pytest.fixture
async def store(ledger_server: RedisServer) -> AsyncIterator[ReleaseStore]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield ReleaseStore(ledger)
    await ledger.close()


def leader(client: Any) -> str:
    return lease(client)[1]


def lease(client: Any) -> tuple[int, str]:
    """Token and holder of one moment: a lease of a second may end at any other."""
    token, _, holder = (client.get(LEASE) or "0:").partition(":")
    return int(token), holder


async def lease_held_by(client: Any, names: Container[str]) -> tuple[int, str]:
    while (held := lease(client))[1] not in names:
        await asyncio.sleep(0.01)
    return held


async def decisions_with_people(store: ReleaseStore) -> list[RecordedDecision]:
    return [d for d in await store.newest_decisions(200) if d.decision.batch]


@pytest.mark.parametrize("die_at", ["decided", "midway", "released"])
async def test_leader_that_dies_leaves_its_batch_to_the_next(
    processes: Processes, store: ReleaseStore, ledger_state: Any, die_at: str
) -> None:
    client = ledger_state.client
    client.mset({WAITING: 20, CAPACITY: 64})
    dying = processes.start(die_at)
    assert await asyncio.to_thread(processes.wait, dying) == -signal.SIGKILL
    state = await store.read()
    assert state.open_decision is not None and state.open_decision.batch == 20
    assert int(client.get(LET_IN) or 0) == {"decided": 0, "midway": 3, "released": 20}[die_at]

    processes.start()
    await has_become(lambda: not client.exists("fg:{ledger}:release-open-decision"))
    assert int(client.get(LET_IN)) == 20
    [recorded] = await decisions_with_people(store)
    assert recorded.released == 20
    assert recorded.decision == state.open_decision


async def test_there_is_one_leader_and_a_new_one_soon_after_its_death(
    processes: Processes, ledger_state: Any
) -> None:
    names = {processes.start() for _ in range(3)}
    token, first = await lease_held_by(ledger_state.client, names)
    for _ in range(2):
        processes.kill(first)
        names.remove(first)
        later, first = await lease_held_by(ledger_state.client, names)
        assert later > token
        token = later


@pytest.mark.parametrize("seed", [1, 2])
async def test_kills_at_random_points_lose_and_double_nobody(
    processes: Processes,
    store: ReleaseStore,
    ledger_state: Any,
    ledger_server: RedisServer,
    seed: int,
) -> None:
    """Leaders and the ledger itself are killed, six times in all."""
    draw = random.Random(seed)
    client = ledger_state.client
    client.mset({WAITING: 200, LET_IN: 0, CAPACITY: 64})
    for _ in range(6):
        while len(processes.running) < 2:
            processes.start()
        goal = int(client.get(LET_IN)) + draw.randint(1, 25)

        def are_let_in(goal: int = goal) -> bool:
            return int(client.get(LET_IN)) >= min(goal, 200)

        await has_become(are_let_in)
        if draw.random() < 0.3:
            ledger_server.kill()
            await asyncio.to_thread(ledger_server.start)
        elif (name := leader(client)) in processes.running:
            processes.kill(name)
    while len(processes.running) < 2:
        processes.start()
    await has_become(lambda: int(client.get(WAITING)) == 0)
    await has_become(lambda: not client.exists("fg:{ledger}:release-open-decision"))
    recorded = await decisions_with_people(store)
    assert sum(one.released or 0 for one in recorded) == int(client.get(LET_IN)) == 200
    assert all(one.released == one.decision.batch for one in recorded)
    outcomes = [
        f for _, f in client.xrange("fg:{ledger}:release-decisions") if f["kind"] == "outcome"
    ]
    assert len({outcome["id"] for outcome in outcomes}) == len(outcomes) == len(recorded)


async def test_stopped_leader_that_wakes_up_writes_nothing(
    processes: Processes, ledger_state: Any
) -> None:
    """It was stopped for longer than its lease: nothing comes under its token once another leads.

    On a machine that stands still for a second it may lead anew, under a later token.
    """
    client = ledger_state.client
    sleeper = processes.start()
    await lease_held_by(client, {sleeper})
    processes.running[sleeper].send_signal(signal.SIGSTOP)
    other = processes.start()
    token, _ = await lease_held_by(client, {other})
    before = {entry["decision"] for entry in decision_entries(client)}
    client.mset({WAITING: 60, CAPACITY: 64})
    processes.running[sleeper].send_signal(signal.SIGCONT)
    await has_become(lambda: int(client.get(WAITING)) == 0)
    later = [e for e in decision_entries(client) if e["decision"] not in before]
    assert later
    assert all(int(entry["id"].split("_")[1]) >= token for entry in later)


def decision_entries(client: Any) -> list[dict[str, str]]:
    entries = [fields for _, fields in client.xrange("fg:{ledger}:release-decisions")]
    return [entry for entry in entries if entry["kind"] == "decision"]


class ScriptedDoor:
    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.paused = False
        self.calls: list[tuple[int, str]] = []

    async def people_waiting(self) -> int:
        return self.waiting

    async def is_paused(self) -> bool:
        return self.paused

    async def release(self, count: int, decision_id: str) -> int:
        self.calls.append((count, decision_id))
        self.waiting -= count
        return count


class ScriptedGauge:
    def __init__(self) -> None:
        self.load = ServingLoad(64.0, 0.0, "")
        self.broken = False

    async def read(self) -> ServingLoad:
        if self.broken:
            raise GaugeUnavailable("the flow Redis does not answer")
        return self.load


class KnownNewcomers:
    async def read(self) -> NewcomerUse:
        return NewcomerUse(1000, 1000.0, 10.0)


class Gate:
    """A controller in this process, its clock, gauge and door in the test's hand."""

    def __init__(self, ledger: Ledger) -> None:
        self.now_s = NOON_S
        self.gauge = ScriptedGauge()
        self.door = ScriptedDoor(1_000_000)
        self.store = ReleaseStore(ledger)
        self.learner = ActivationLearner(ledger, invite_life_s=7 * 86_400.0)
        self.controller = ReleaseController(
            store=self.store,
            gauge=self.gauge,
            door=self.door,
            newcomers=KnownNewcomers(),
            learner=self.learner,
            policy=SizingPolicy(),
            times=ControllerTimes(lease_s=60.0, tick_s=TIMES.tick_s),
            clock=lambda: self.now_s,
        )

    async def decide(self) -> RecordedDecision:
        self.now_s += 900
        await self.controller.step()
        return (await self.store.newest_decisions(1))[0]

    async def set(self, control: ReleaseControl) -> None:
        await self.store.set_control(control, at_s=self.now_s, actor="test")


@pytest.fixture
async def gate(ledger_server: RedisServer) -> AsyncIterator[Gate]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield Gate(ledger)
    await ledger.close()


async def test_decision_is_read_back_with_its_arithmetic(gate: Gate) -> None:
    recorded = await gate.decide()
    assert recorded.decision.batch > 0
    assert recorded.released == recorded.decision.batch
    assert gate.door.calls == [(recorded.decision.batch, recorded.decision.decision_id)]
    text = describe(recorded)
    assert "64.0 slots x 0.80 = 51.2 slots" in text
    assert f"let in {recorded.decision.batch}" in text


async def test_overload_and_unknown_serving_let_nobody_in(gate: Gate) -> None:
    gate.gauge.load = ServingLoad(64.0, 70.0, "callers wait")
    assert (await gate.decide()).decision.reason == "overload: callers wait"
    gate.gauge.broken = True
    recorded = await gate.decide()
    assert "the flow Redis does not answer" in recorded.decision.reason
    assert gate.door.calls == []


async def test_pause_and_schedule(gate: Gate, ledger_state: Any) -> None:
    gate.door.paused = True
    assert (await gate.decide()).decision.reason == "paused"
    gate.door.paused = False
    await gate.set(ReleaseControl(begins_at_s=gate.now_s + 5000))
    assert "begins at 2026-11-17 13:38 UTC" in (await gate.decide()).decision.reason
    await gate.set(ReleaseControl(from_hour=20, until_hour=2))
    assert (await gate.decide()).decision.reason == "only from 20 to 2 h UTC"
    assert gate.door.calls == []
    gate.now_s += 12 * 3600
    await gate.set(ReleaseControl(from_hour=20, until_hour=2, batch_max=5))
    assert (await gate.decide()).decision.batch == 5
    await gate.set(ReleaseControl())
    assert (await gate.decide()).decision.batch > 5
    controlled = ledger_state.audit("release_controlled")
    assert [entry["actor"] for entry in controlled] == ["test"] * 4
    assert float(controlled[0]["begins_at_s"]) > gate.now_s - 86_400


async def test_hours_are_measured_and_survive_the_leader(gate: Gate) -> None:
    gate.gauge.load = ServingLoad(64.0, 12.0, "")
    await gate.decide()
    gate.gauge.load = ServingLoad(64.0, 24.0, "")
    gate.now_s += 10
    await gate.controller.step()
    hours = (await gate.store.read()).hours
    assert [hour.demand_slots for hour in hours] == [18.0]
    gate.now_s += 100 * 3600
    await gate.controller.step()
    assert [hour.demand_slots for hour in (await gate.store.read()).hours] == [24.0]


@pytest.mark.parametrize("from_hour", [20, 0, 23])
@pytest.mark.parametrize("until_hour", [2, 0, 22])
def test_schedule_opens_at_its_hours_and_at_no_others(from_hour: int, until_hour: int) -> None:
    control = ReleaseControl(from_hour=from_hour, until_hour=until_hour)
    midnight_s = NOON_S - 12 * 3600
    is_open = {h for h in range(24) if not control.refusal(midnight_s + h * 3600 + 1800)}
    expected, hour = set(), from_hour
    while hour not in expected:
        expected.add(hour)
        hour = (hour + 1) % 24
        if hour == until_hour:
            break
    assert is_open == expected


async def test_controller_that_is_stopped_gives_the_lease_back(
    gate: Gate, ledger_state: Any
) -> None:
    running = asyncio.create_task(gate.controller.run())
    await has_become(lambda: gate.controller.leads)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert ledger_state.client.get(LEASE) is None
