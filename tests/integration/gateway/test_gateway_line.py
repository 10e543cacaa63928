"""The line through real gateway processes: places told, refusals, hang-ups, restarts."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
import redis
from aiohttp import web

from gateway.flow import redis_keys
from serving.flow.record import EngineLoad, ReplicaFacts, record_json
from serving.flow.record_store import RecordStore
from tests.free_ports import free_port
from tests.gateway_callers import caller, load_by_worker, until_arrived, until_waiting
from tests.gateway_process import GatewayProcess
from tests.held_engine import EVENTS, Held
from tests.plans_file import write_plans
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
KEYS_OF_MODEL = redis_keys.pool(MODEL)
Start = Callable[..., GatewayProcess]


async def test_who_waits_in_a_stream_hears_of_its_place_and_then_gets_the_answer(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    async with start_gateway(slots=1) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        async with client.stream("POST", PATH, json=STREAM) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-accel-buffering"] == "no"
            assert "x-ratelimit-remaining-tokens" in answer.headers
            text = b""
            async for piece in answer.aiter_raw():
                text += piece
                held.let_go(2)
        assert text.startswith(b": queue position=1 eta=")
        assert text.endswith(EVENTS)
        assert (await first).status_code == 200


async def test_who_waits_for_json_gets_white_space_and_then_the_answer(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    settings = {"slots": 1, "queue_notice_json_s": 0.1}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        async with client.stream("POST", PATH, json=CHAT) as answer:
            assert answer.headers["x-accel-buffering"] == "no"
            text = b""
            async for piece in answer.aiter_raw():
                text += piece
                held.let_go(2)
        assert text[:1] == b" "
        assert orjson.loads(text)["object"] == "chat.completion"
        await first


async def test_who_waits_is_told_so_also_while_flow_is_gone(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    held = Held(engine)
    settings = {"slots": 1, "queue_notice_stream_s": 0, "queue_notice_every_s": 0.1}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        async with client.stream("POST", PATH, json=STREAM) as answer:
            text = b""
            async for piece in answer.aiter_raw():
                if not text:
                    flow_server.pause()
                text += piece
                if text.count(b"position=unknown eta=unknown") >= 2:
                    break
            flow_server.resume()
            held.let_go(2)
        assert (await first).status_code == 200


async def test_an_account_sees_its_own_requests_in_line(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    async with start_gateway(slots=1, workers=2) as gateway, caller(gateway, api_key) as client:
        calls = [asyncio.create_task(client.post(PATH, json=CHAT))]
        await engine.request(0)
        calls += [asyncio.create_task(client.post(PATH, json=CHAT)) for _ in range(3)]
        view = await until_waiting(client, 3)
        assert view["model"] == CHAT["model"]
        assert (view["running"], view["waiting_everywhere"]) == (1, 3)
        waiting = view["waiting"]
        assert isinstance(waiting, list)
        assert [ticket["position"] for ticket in waiting] == [1, 2, 3]
        assert waiting[0]["eta_s"] is None, "nothing has been granted yet"
        held.let_go(4)
        assert {(await call).status_code for call in calls} == {200}


@pytest.mark.parametrize(
    ("settings", "plan", "status", "code"),
    [
        ({"queue_length_max": 1}, {}, 503, "queue_full"),
        ({"queue_bytes_max": 20}, {}, 503, "queue_full"),
        ({"queue_wait_s_max": 0.2}, {}, 503, "queue_timeout"),
        ({}, {"waiting_requests": 0}, 429, "account_queue_full"),
    ],
)
async def test_refusals_say_why_and_when_to_come_back(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    tmp_path: Path,
    settings: dict[str, object],
    plan: dict[str, int],
    status: int,
    code: str,
) -> None:
    held = Held(engine)
    plans = {"plans_file": write_plans(tmp_path / "narrow", **plan)} if plan else {}
    async with (
        start_gateway(slots=1, **settings, **plans) as gateway,
        caller(gateway, api_key) as client,
    ):
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        others = [asyncio.create_task(client.post(PATH, json=CHAT)) for _ in range(2)]
        done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert refused.headers["x-should-retry"] == "true"
        held.let_go(3)
        await asyncio.gather(first, *others)
        reason = rf'floodgate_refused_total{{model="{MODEL}",plan="free",reason="{code}"}}'
        assert await gateway.metric(reason.replace("{", r"\{")) >= 1


async def test_a_refusal_costs_no_tokens_and_no_request(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    settings = {"slots": 1, "queue_wait_s_max": 0.2}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        refused = await client.post(PATH, json=CHAT)
        assert refused.status_code == 503
        held.let_go(100)
        await first
        while True:  # the give-back travels behind the refusal
            left = (await client.post(PATH, json=CHAT)).headers
            limit = int(left["x-ratelimit-limit-requests"])
            served = len(engine.requests)
            if int(left["x-ratelimit-remaining-requests"]) >= limit - served:
                break
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (PATH, ("error",)),
        ("/v1/completions", ("error",)),
        ("/v1/responses", ()),
        ("/v1/messages", ("error",)),
    ],
)
async def test_a_stream_that_was_told_its_place_is_refused_inside_the_stream(
    start_gateway: Start,
    api_key: str,
    engine: ScriptedEngine,
    path: str,
    where: tuple[str, ...],
) -> None:
    held = Held(engine)
    bodies: dict[str, dict[str, object]] = {
        "/v1/completions": {"model": MODEL, "prompt": "x"},
        "/v1/responses": {"model": MODEL, "input": "x"},
        "/v1/messages": {**CHAT, "max_tokens": 5},
    }
    settings = {"slots": 1, "queue_notice_stream_s": 0, "queue_wait_s_max": 6}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        answer = await client.post(path, json={**bodies.get(path, CHAT), "stream": True})
        assert answer.status_code == 200
        assert answer.content.startswith(b": queue position=1 ")
        event = orjson.loads(answer.content.strip().rpartition(b"data: ")[2])
        for name in where:
            event = event[name]
        assert event["reason"] == "queue_timeout"
        assert 1 <= event["retry_after"] <= 120
        held.let_go(1)
        await first


async def test_json_that_was_told_to_wait_is_cut_and_never_taken_for_success(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    settings = {"slots": 1, "queue_notice_json_s": 0, "queue_wait_s_max": 6}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(PATH, json=CHAT)
        held.let_go(1)
        await first


@pytest.mark.timeout(120)
async def test_without_a_replica_callers_wait_and_are_then_told_so(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    """No replica of a known model is up: that is a wait, not a refusal, until it lasts too long."""
    replicas = PublishedReplicas(flow_server.url, MODEL)
    replicas.add("r1", engine.url, slots=1)
    gateway = start_gateway(upstream_url="", queue_wait_s_max=6)
    async with replicas, gateway, caller(gateway, api_key) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        replicas.fall_silent("r1")
        while (answer := await client.post(PATH, json=CHAT)).status_code == 200:
            pass  # until the record expires
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_capacity")
        assert answer.headers["x-should-retry"] == "true"
        assert await state_of_model(client) == "dead"
        assert "Nothing serves this model" in answer.json()["error"]["message"]
        soon_s = int(answer.headers["retry-after"])
        answer = await client.post(PATH, json=CHAT)
        assert 5 <= soon_s < int(answer.headers["retry-after"]) <= 120, "it lasts"
        replicas.wanted = 0
        while await state_of_model(client) != "scaled_to_zero":
            await asyncio.sleep(0.02)
        answer = await client.post(PATH, json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_capacity")
        assert "put to sleep" in answer.json()["error"]["message"]
        replicas.wanted = 1
        while await state_of_model(client) != "starting":
            await asyncio.sleep(0.02)
        waiting = asyncio.create_task(client.post(PATH, json=CHAT))
        await until_waiting(client, 1)
        replicas.add("r2", engine.url, slots=1)  # one comes up while somebody waits
        assert (await waiting).status_code == 200
        assert await state_of_model(client) == "running"


async def test_room_that_the_engine_has_filled_by_itself_is_not_handed_out(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    """Work inside the engine that no gateway sent: the slots it fills are taken."""
    store = RecordStore(flow_server.url, model=MODEL, replica_id="r1")
    facts = ReplicaFacts(MODEL, "r1", context_tokens_max=4096, endpoints=())
    load = EngineLoad()

    async def publish() -> None:
        while True:
            store.write(
                record_json(
                    facts, url=engine.url, state="running", slots=2, load=load, published_at_ms=0
                )
            )
            await asyncio.sleep(0.2)

    publishing = asyncio.create_task(publish())
    async with start_gateway(upstream_url="") as gateway, caller(gateway, api_key) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        load = EngineLoad(running=1, waiting=1)
        capacity = KEYS_OF_MODEL + ":capacity"
        with redis.Redis.from_url(flow_server.url, decode_responses=True) as flow:
            while flow.hget(capacity, "r1") not in (None, "0"):
                await asyncio.sleep(0.02)
            waiting = asyncio.create_task(client.post(PATH, json=CHAT))
            await until_waiting(client, 1)
            load = EngineLoad()
            assert (await waiting).status_code == 200
            while flow.hget(capacity, "r1") != "2":
                await asyncio.sleep(0.02)
    publishing.cancel()
    store.close()


async def test_a_request_that_moves_to_another_replica_is_admitted_once(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    # Of two replicas the one with more free slots is taken first, and nothing listens there.
    urls = {"gone": f"http://127.0.0.1:{free_port()}", "there": engine.url}
    slots = {"gone": 8, "there": 1}
    stores = {name: RecordStore(flow_server.url, model=MODEL, replica_id=name) for name in urls}

    async def publish() -> None:
        while True:
            for name, store in stores.items():
                facts = ReplicaFacts(MODEL, name, 4096, endpoints=())
                store.write(
                    record_json(
                        facts,
                        url=urls[name],
                        state="running",
                        slots=slots[name],
                        load=EngineLoad(),
                        published_at_ms=0,
                    )
                )
            await asyncio.sleep(1)

    publishing = asyncio.create_task(publish())
    gateway = start_gateway(upstream_url="")
    async with gateway, caller(gateway, api_key) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        unreachable = r'floodgate_engine_faults_total\{kind="unreachable"\}'
        assert await gateway.metric(unreachable) == 1
        admitted = rf'floodgate_admitted_total\{{model="{MODEL}",plan="free"'
        assert await gateway.metric(admitted) == 1
    publishing.cancel()
    for store in stores.values():
        store.close()


async def state_of_model(client: httpx.AsyncClient) -> str:
    report = (await client.get("/readyz")).json()
    return str(report["engine"]["models"][MODEL]["state"])


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_hanging_up_in_line_frees_the_place(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, body: dict[str, object]
) -> None:
    held = Held(engine)
    async with start_gateway(slots=1) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        waiting = [asyncio.create_task(client.post(PATH, json=body)) for _ in range(3)]
        await until_waiting(client, 3)
        for call in waiting[:2]:
            call.cancel()
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        await until_waiting(client, 1)
        held.let_go(2)
        assert (await waiting[2]).status_code == 200
        assert (await first).status_code == 200
        assert len(engine.requests) == 2
        assert await gateway.metric(r'floodgate_client_disconnects_total\{.*state="queued"\}') == 2


async def test_a_worker_that_stops_sends_waiting_callers_on_with_their_place_kept(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    held = Held(engine)
    gateway = start_gateway(slots=1, gateway_drain_s_max=30)
    async with gateway, caller(gateway, api_key) as client:
        running = asyncio.create_task(client.post(PATH, json=STREAM))
        await engine.request(0)
        waiting = asyncio.create_task(client.post(PATH, json=CHAT))
        await until_waiting(client, 1)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        refused = await waiting
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert refused.headers["retry-after"] == "1"
        held.let_go(1)
        assert (await running).content.endswith(EVENTS), "an accepted stream runs to its end"
        await stopping


async def test_replacing_all_workers_under_load_loses_no_accepted_stream(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    go_on = asyncio.Event()

    async def slow(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n')
        await go_on.wait()
        await response.write(b"data: [DONE]\n\n")
        return response

    engine.script = slow
    gateway = start_gateway(slots=4, workers=2)
    async with gateway, caller(gateway, api_key) as client:
        old = {worker.pid for worker in gateway.workers()}
        streams = [asyncio.create_task(client.post(PATH, json=STREAM)) for _ in range(4)]
        await engine.request(3)
        gateway.replace_workers()
        while len({worker.pid for worker in gateway.workers()} - old) < 2:
            await asyncio.sleep(0.05)
        go_on.set()
        answers = [await stream for stream in streams]
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.content.endswith(b"data: [DONE]\n\n") for answer in answers)
        while {worker.pid for worker in gateway.workers()} & old:
            await asyncio.sleep(0.05)
        assert (await client.post(PATH, json=STREAM)).status_code == 200


async def test_a_worker_that_is_killed_loses_its_own_callers_only(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    held = Held(engine)
    async with start_gateway(slots=4, workers=2) as gateway, caller(gateway, api_key) as client:
        calls: list[asyncio.Task[httpx.Response]] = []
        # Whoever comes gets the worker that wakes first: on until each of the two has somebody.
        while sum(map(any, (await load_by_worker(flow_server)).values())) < 2:
            calls += [asyncio.create_task(client.post(PATH, json=CHAT)) for _ in range(8)]
            await until_arrived(flow_server, len(calls))
        gateway.workers()[0].kill()
        held.let_go(1000)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        lived = [answer for answer in answers if isinstance(answer, httpx.Response)]
        assert 0 < len(lived) < len(calls)
        assert all(answer.status_code == 200 for answer in lived)
        async with asyncio.timeout(40):  # its slots and tickets are back within its lease
            later = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(6)))
        assert {answer.status_code for answer in later} == {200}
