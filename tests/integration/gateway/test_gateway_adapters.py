"""LoRA adapters through the real gateway: models of their own, in their base's line and slots."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from aiohttp import web

from serving.flow.model_store import ModelStore
from serving.flow.publisher import Publisher
from serving.flow.record import EngineLoad, ReplicaFacts, model_record_json, record_json
from serving.flow.record_store import RecordStore
from tests.gateway_callers import caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import EngineRequest, ScriptedEngine
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
BASE, ADAPTER = "base", "poet"
Start = Callable[..., GatewayProcess]
_KEEP_PERIOD_S = 0.5


class Serving:
    """Publishes a base model with one slot and one adapter, as serving does."""

    def __init__(self, flow_url: str, engine_url: str) -> None:
        self._facts = ReplicaFacts(
            model=BASE,
            replica_id="r1",
            context_tokens_max=2048,
            endpoints=("chat/completions",),
            adapters=(ADAPTER,),
        )
        self._engine_url = engine_url
        self.replicas = 1
        self._publisher = Publisher(
            RecordStore(flow_url, model=BASE, replica_id="r1"), self._replica
        )
        self._keeper = ModelStore(flow_url, model=BASE)
        self._stop = threading.Event()
        self._keeping = threading.Thread(target=self._keep)

    def __enter__(self) -> "Serving":
        self._publisher.start()
        self._keeping.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.stop()
        self._stop.set()
        self._keeping.join()
        self._keeper.close()

    def sleep(self) -> None:
        """Takes the replica away; the model is known to sleep."""
        self.replicas = 0
        self._publisher.stop()
        self._keeper.write(self._model())

    def _keep(self) -> None:
        """Renews the model's record, as serving does."""
        while not self._stop.is_set():
            self._keeper.write(self._model())
            self._stop.wait(_KEEP_PERIOD_S)

    def _replica(self) -> str:
        return record_json(
            self._facts,
            url=self._engine_url,
            state="running",
            slots=1,
            load=EngineLoad(),
            published_at_ms=0,
        )

    def _model(self) -> str:
        return model_record_json(
            replicas_wanted=self.replicas, replicas_max=1, adapters=self._facts.adapters
        )


@pytest.fixture
def serving(flow_server: RedisServer, engine: ScriptedEngine) -> Iterator[Serving]:
    with Serving(flow_server.url, engine.url) as running:
        yield running


@pytest.fixture
def start(start_gateway: Start, serving: Serving) -> Start:
    """A gateway that finds its replicas on the flow Redis."""
    return lambda **settings: start_gateway(upstream_url="", **settings)


async def until_slots(gateway: GatewayProcess, count: int) -> None:
    """Until the lines of all models together have so many."""
    while await gateway.metric(r"floodgate_slots_capacity\{") != count:
        await asyncio.sleep(0.05)


async def states(client: httpx.AsyncClient) -> dict[str, str]:
    """By model, as the gateway reports them."""
    models = (await client.get("/readyz")).json()["engine"]["models"]
    return {name: model["state"] for name, model in models.items()}


async def test_an_adapter_is_a_model_to_callers_and_in_their_usage(
    start: Start, api_key: str, directory: Directory, engine: ScriptedEngine
) -> None:
    async with start() as gateway, caller(gateway, api_key) as client:
        cards = (await client.get("/v1/models")).json()["data"]
        assert [(card["id"], card["max_model_len"]) for card in cards] == [
            (BASE, 2048),
            (ADAPTER, 2048),
        ]
        answer = await client.post(PATH, json={"model": ADAPTER, "messages": MESSAGES})
        assert answer.status_code == 200
        assert orjson.loads(engine.requests[0].body)["model"] == ADAPTER
        record = await directory.find_key(api_key)
        assert record is not None
        while not (days := await directory.usage.usage_of(record.account_id, 2)):
            await asyncio.sleep(0.05)
        assert {model for day in days for model in day.by_model} == {ADAPTER}


async def test_an_adapter_and_its_base_share_one_line_and_its_slots(
    start: Start, api_key: str, engine: ScriptedEngine
) -> None:
    let_go = asyncio.Event()

    async def held(request: EngineRequest) -> web.StreamResponse:
        await let_go.wait()
        return web.json_response({"object": "chat.completion", "choices": []})

    engine.script = held
    async with start() as gateway, caller(gateway, api_key) as client:
        calls = [
            asyncio.create_task(client.post(PATH, json={"model": model, "messages": MESSAGES}))
            for model in (BASE, ADAPTER, BASE)
        ]
        view = await until_waiting(client, 2)
        assert (view["model"], view["running"]) == (BASE, 1)
        let_go.set()
        assert {(await call).status_code for call in calls} == {200}
        await until_slots(gateway, 1)


async def test_plans_and_aliases_name_an_adapter_like_any_model(
    start: Start, api_key: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text(f"verse: {ADAPTER}\n")
    plans_file = write_plans(tmp_path / "plans", models=["verse", ADAPTER])
    settings = {"routes_file": routes_file, "plans_file": plans_file}
    async with start(**settings) as gateway, caller(gateway, api_key) as client:
        for model, status in (("verse", 200), (ADAPTER, 200), (BASE, 404)):
            answer = await client.post(PATH, json={"model": model, "messages": MESSAGES})
            assert answer.status_code == status
        models = [orjson.loads(request.body)["model"] for request in engine.requests]
        assert models == [ADAPTER, ADAPTER]


async def test_an_adapter_of_a_model_that_sleeps_is_waited_for(
    start: Start, api_key: str, serving: Serving
) -> None:
    async with start() as gateway, caller(gateway, api_key) as client:
        await until_slots(gateway, 1)
        await asyncio.to_thread(serving.sleep)
        await until_slots(gateway, 0)
        while await states(client) != {BASE: "scaled_to_zero", ADAPTER: "scaled_to_zero"}:
            await asyncio.sleep(0.05)
        waiting = asyncio.create_task(
            client.post(PATH, json={"model": ADAPTER, "messages": MESSAGES})
        )
        await until_waiting(client, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
