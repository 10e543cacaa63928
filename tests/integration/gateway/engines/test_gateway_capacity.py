"""What the gateway knows of models and replicas while their records come, fail or are lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from redis.exceptions import RedisError

from gateway.engines.capacity import FlowCapacity
from gateway.engines.pools import PoolState
from gateway.engines.upstream import Upstream
from gateway.errors import FlowUnavailable
from gateway.flow.redis_client import FlowRedis
from serving.flow.record import EngineLoad, ReplicaFacts, record_json
from serving.flow.record_store import RecordStore
from tests.redis_server import RedisServer
from tests.scripted_engine import EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

PATH = "/v1/chat/completions"
Publish = Callable[[str, str], None]


class Watching:
    """Looks at the records once a second, by a clock of its own."""

    def __init__(self, flow: FlowRedis, upstream: Upstream) -> None:
        self.now = 1000.0
        self.capacity = FlowCapacity(flow, upstream, clock=lambda: self.now)

    async def look(self, count: int = 1) -> set[str]:
        """Every second; the models that are known at the end."""
        for _ in range(count):
            self.now += 1.0
            await self.capacity.refresh()
        return set(self.capacity.view.by_model)

    async def look_until_flow_answers(self) -> set[str]:
        """All within one second, since a client that was cut off comes back in real time."""
        self.now += 1.0
        while True:
            try:
                await self.capacity.refresh()
            except FlowUnavailable:
                await asyncio.sleep(0.01)
            else:
                return set(self.capacity.view.by_model)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream(engine_secret="", api_key="")
    yield made
    await made.close()


@pytest.fixture
def watching(flow: FlowRedis, upstream: Upstream) -> Watching:
    return Watching(flow, upstream)


@pytest.fixture
def publish(flow_server: RedisServer) -> Iterator[Publish]:
    """Writes the record of a model's one replica."""
    with ExitStack() as stack:
        stores: dict[str, RecordStore] = {}

        def write(model: str, url: str) -> None:
            if model not in stores:
                stores[model] = RecordStore(flow_server.url, model=model, replica_id=model)
                stack.callback(stores[model].close)
            facts = ReplicaFacts(model, model, context_tokens_max=4096, endpoints=())
            record = record_json(
                facts, url=url, state="running", slots=4, load=EngineLoad(), published_at_ms=0
            )
            with suppress(RedisError):  # the connection that a restart has cut
                return stores[model].write(record)
            return stores[model].write(record)

        yield write


@pytest.mark.parametrize("outage_s", [10, 120])
async def test_an_outage_of_the_flow_redis_forgets_nobody_and_cuts_no_stream(
    watching: Watching,
    publish: Publish,
    upstream: Upstream,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    outage_s: int,
) -> None:
    go_on = asyncio.Event()

    async def answer(request: EngineRequest) -> "asyncio.Future[None]":
        stream = await request.stream()
        await stream.write(b"data: 1\n\n")
        await go_on.wait()
        await stream.write(b"data: 2\n\n")
        return stream  # type: ignore[return-value]

    engine.script = answer  # type: ignore[assignment]
    publish("moss", engine.url)
    assert await watching.look() == {"moss"}
    with await upstream.post(engine.url, PATH, b"{}", {}) as answered:
        assert await answered.read() == b"data: 1\n\n"
        flow_server.kill()
        with pytest.raises(FlowUnavailable):
            await watching.look()
        watching.now += outage_s
        flow_server.start()  # and is empty until the next record
        assert await watching.look_until_flow_answers() == {"moss"}
        assert await watching.look(3) == {"moss"}
        assert watching.capacity.view.by_model["moss"].state is PoolState.RUNNING
        publish("moss", engine.url)
        assert await watching.look(20) == {"moss"}
        go_on.set()
        assert await answered.read() == b"data: 2\n\n"


async def test_a_restarted_flow_redis_that_has_heard_of_one_model_hides_no_other(
    watching: Watching, publish: Publish, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    for model in ("moss", "verse"):
        publish(model, engine.url)
    assert await watching.look() == {"moss", "verse"}
    flow_server.kill()
    flow_server.start()
    publish("moss", engine.url)
    assert await watching.look_until_flow_answers() == {"moss", "verse"}
    assert await watching.look(3) == {"moss", "verse"}
    assert await watching.look(5) == {"moss"}, "nobody has told of the other again"
    publish("verse", engine.url)
    assert await watching.look() == {"moss", "verse"}


async def test_no_model_is_known_before_the_first_record(
    watching: Watching, publish: Publish, engine: ScriptedEngine
) -> None:
    assert await watching.look(10) == set()
    publish("moss", engine.url)
    assert await watching.look() == {"moss"}
