"""What a replica is to gateways, and how it ends."""

import asyncio
import json
from typing import Any

import pytest

from serving.engine.counted_requests import CountedRequests
from serving.engine.engine_watch import EngineWatch
from serving.engine.hang_watch import HangWatch
from serving.engine.replica_address import ReplicaAddress
from serving.engine.replica_gate import Message, Scope
from serving.engine.serving_replica import ServingReplica, published_state
from serving.engine.slot_rule import SlotRange, SlotRule
from serving.flow.record import ReplicaFacts

FACTS = ReplicaFacts("m", "r1", context_tokens_max=2048, endpoints=("completions",))


class Engine:
    """An engine in whose first step all requests are: its gauges have told of none yet."""

    errored = False

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.aborted = False

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await self.let.wait()

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        self.aborted = True
        self.let.set()


class Serving:
    """A replica whose port is not open, with one request inside."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.requests = CountedRequests(self.engine)
        self.published = 0
        self.is_to_close = False
        self.replica = ServingReplica(
            FACTS,
            engine=self.engine,
            requests=self.requests,
            watch=EngineWatch(
                SlotRule(SlotRange(1, 4, 8)),
                HangWatch(60),
                unfinished=lambda: self.requests.unfinished,
                kill=lambda: None,
                clock=lambda: 0.0,
            ),
            address=ReplicaAddress("127.0.0.1", range(0)),
            start_s={"start engine": 9.5},
            demand=lambda: None,
            publish=self._publish,
            close_at_once=self._close_at_once,
        )

    def _publish(self) -> None:
        self.published += 1

    def _close_at_once(self) -> None:
        self.is_to_close = True

    async def ask(self) -> asyncio.Task[None]:
        async def nothing() -> Message:
            return {}

        async def nowhere(message: Message) -> None:
            pass

        async def request() -> None:
            await self.requests({"type": "http"}, nothing, nowhere)

        asked = asyncio.create_task(request())
        await asyncio.sleep(0)
        return asked


async def test_a_drain_awaits_a_request_whose_first_step_is_not_done() -> None:
    serving = Serving()
    asked = await serving.ask()
    draining = asyncio.create_task(serving.replica.drain(abort=False, within_s=30))
    await asyncio.sleep(0)
    assert (serving.published, serving.engine.aborted, serving.is_to_close) == (1, False, False)
    assert serving.replica.state()["state"] == "draining"
    serving.engine.let.set()
    assert await draining == 0
    assert serving.engine.aborted, "nobody is let in any more"
    assert serving.is_to_close
    await asked


@pytest.mark.parametrize(("abort", "within_s"), [(True, 30.0), (False, 0.0)])
async def test_what_is_inside_is_cut_at_once_or_when_its_time_is_over(
    abort: bool, within_s: float
) -> None:
    serving = Serving()
    asked = [await serving.ask(), await serving.ask()]
    assert await serving.replica.drain(abort=abort, within_s=within_s) == 2
    assert serving.engine.aborted
    await asyncio.gather(*asked)


async def test_a_dead_engine_is_published_as_the_first_of_its_requests_fails() -> None:
    serving = Serving()
    asked = [await serving.ask(), await serving.ask()]
    serving.engine.errored = True
    serving.engine.let.set()
    await asyncio.gather(*asked)
    assert serving.published == 1


async def test_whoever_ends_at_an_engine_that_lives_has_nothing_published() -> None:
    serving = Serving()
    asked = await serving.ask()
    serving.engine.let.set()
    await asked
    assert serving.published == 0


async def test_its_state_tells_its_start_and_what_is_inside() -> None:
    serving = Serving()
    asked = await serving.ask()
    assert serving.replica.state() == {
        "replica_id": "r1",
        "state": "running",
        "start_s": {"start engine": 9.5},
        "in_flight": 1,
    }
    serving.engine.let.set()
    await asked


async def test_a_record_before_the_port_is_open_has_no_address() -> None:
    record = json.loads(Serving().replica.record() or "")
    assert (record["state"], record["url"], record["slots"]) == ("starting", "", 4)
    assert record["endpoints"] == ["completions"]


@pytest.mark.parametrize(
    ("health", "ends", "state"),
    [
        (200, False, "running"),
        (503, False, "draining"),
        (200, True, "draining"),
        (None, True, "draining"),
        (500, False, None),
        (None, False, None),
    ],
)
def test_what_a_replica_with_an_open_port_is(
    health: int | None, ends: bool, state: str | None
) -> None:
    assert published_state(is_open=True, health=health, ends=ends) == state
    assert published_state(is_open=False, health=health, ends=ends) == "starting"


@pytest.fixture
def open_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplicaAddress, "look", lambda self: ("http://127.0.0.1:30000", 200))


@pytest.mark.usefixtures("open_port")
def test_a_dead_engine_is_published_and_not_passed_over_in_silence() -> None:
    """The last record, which says "running", would live on and be given work."""
    serving = Serving()
    assert json.loads(serving.replica.record() or "{}")["state"] == "running"
    serving.engine.errored = True
    assert json.loads(serving.replica.record() or "{}")["state"] == "draining"
