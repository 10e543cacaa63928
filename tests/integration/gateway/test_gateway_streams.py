"""Streams through the real gateway processes: at once, whole, and ended in words."""

import asyncio
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
from aiohttp import web

from tests.free_ports import free_port
from tests.gateway_callers import caller, until_day_tokens
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
# More than the server buffers before it stops reading: then it must read on to see the hang-up.
LARGE = {**CHAT, "messages": [{"role": "user", "content": "x" * 1_000_000}]}
PATH = "/v1/chat/completions"
STREAMS = {
    PATH: STREAM,
    "/v1/completions": {"model": MODEL, "prompt": "hello", "stream": True},
    "/v1/responses": {"model": MODEL, "input": "hello", "stream": True},
    "/v1/messages": {**STREAM, "max_tokens": 8},
}


async def begin_and_never_end(request: EngineRequest) -> web.StreamResponse:
    """A stream gets its first event, a whole answer nothing."""
    if b"stream" not in request.body:
        return await request.wait_until_gone()
    response = await request.stream()
    await response.write(b'data: {"n":0}\n\n')
    return await request.wait_until_gone()


async def test_each_event_reaches_the_caller_before_the_next_is_made(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    go_on = asyncio.Event()

    async def one_at_a_time(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        for number in range(5):
            await response.write(b'data: {"n":%d}\n\n' % number)
            await go_on.wait()  # until the caller has seen it
            go_on.clear()
        await response.write(b"data: [DONE]\n\n")
        return response

    engine.script = one_at_a_time
    async with client.stream("POST", PATH, json=STREAM) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        seen = b""
        async for piece in answer.aiter_raw():
            seen += piece
            go_on.set()
    assert seen == b"".join(b'data: {"n":%d}\n\n' % n for n in range(5)) + b"data: [DONE]\n\n"


async def test_the_first_event_ends_the_ttft_and_each_other_one_an_itl(
    gateway: GatewayProcess, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    go_on = asyncio.Event()

    async def headers_long_before_three_events(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await asyncio.sleep(0.3)  # the length of the prefill is what is measured
        for _ in range(3):
            await response.write(b"data: {}\n\n")
            await go_on.wait()  # until the caller has seen it, so that each is a piece of its own
            go_on.clear()
        return response

    engine.script = headers_long_before_three_events
    ttft = r'floodgate_ttft_seconds_%s{.*chat/completions.*plan="free"'
    itl = r'floodgate_itl_seconds_count{model=.*plan="free"'
    before = [await gateway.metric(series) for series in (ttft % "count", ttft % "sum", itl)]
    async with client.stream("POST", PATH, json=STREAM) as answer:
        async for _ in answer.aiter_raw():
            go_on.set()
    after = [await gateway.metric(series) for series in (ttft % "count", ttft % "sum", itl)]
    counted, seconds, gaps = (new - old for new, old in zip(after, before, strict=True))
    assert (counted, gaps) == (1, 2)
    assert seconds >= 0.3


@pytest.mark.parametrize("body", [CHAT, STREAM, LARGE], ids=["whole", "stream", "large"])
async def test_a_caller_that_hangs_up_before_the_first_byte_ends_the_engines_work(
    client: httpx.AsyncClient, engine: ScriptedEngine, body: dict[str, object]
) -> None:
    engine.script = EngineRequest.wait_until_gone
    call = asyncio.create_task(client.post(PATH, json=body))
    seen = await engine.request(0)
    call.cancel()
    await asyncio.wait_for(seen.gone.wait(), 10)


async def test_a_caller_that_hangs_up_in_the_stream_ends_the_engines_work(
    client: httpx.AsyncClient, engine: ScriptedEngine, gateway: GatewayProcess
) -> None:
    async def begin(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(b"data: {}\n\n")
        return await request.wait_until_gone()

    engine.script = begin
    hung_up = r'floodgate_client_disconnects_total\{.*state="streaming"}'
    before = await gateway.metric(hung_up)
    async with client.stream("POST", PATH, json=STREAM) as answer:
        async for _ in answer.aiter_raw():
            break
    await asyncio.wait_for((await engine.request(0)).gone.wait(), 10)
    while await gateway.metric(hung_up) != before + 1:
        await asyncio.sleep(0.02)
    while await gateway.metric(r"floodgate_slots_held") != 0:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (PATH, "chat"),
        ("/v1/completions", "chat"),
        ("/v1/responses", "responses"),
        ("/v1/messages", "messages"),
    ],
)
async def test_a_stream_that_breaks_in_the_middle_of_an_event_ends_with_an_error_event(
    client: httpx.AsyncClient, engine: ScriptedEngine, path: str, shape: str
) -> None:
    async def break_off(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(b'data: {"n":0}\n\ndata: {"half":')
        request.cut()
        return response

    engine.script = break_off
    answer = await client.post(path, json=STREAMS[path])
    assert answer.status_code == 200
    last = answer.content.strip().split(b"\n")[-1]
    error = orjson.loads(last.removeprefix(b"data: "))
    if shape == "chat":
        assert error["error"]["code"] == "engine_gone"
    elif shape == "responses":
        assert (error["type"], error["code"]) == ("error", "engine_gone")
    else:
        assert (error["type"], error["error"]["type"]) == ("error", "overloaded_error")


async def test_an_engine_that_breaks_off_before_the_caller_has_a_byte_is_503(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    async def break_off(request: EngineRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = 100
        await response.prepare(request.raw)
        await response.write(b'{"choices":')
        request.cut()
        return response

    engine.script = break_off
    answer = await client.post(PATH, json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_gone")
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert answer.headers["x-should-retry"] == "true"


async def test_a_whole_answer_that_breaks_is_never_taken_for_success(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    async def break_off(request: EngineRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request.raw)
        await response.write(b'{"choices":')
        request.cut()
        return response

    engine.script = break_off
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(PATH, json=CHAT)


async def test_an_engine_that_fails_is_502_without_its_words(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    async def fail(request: EngineRequest) -> web.StreamResponse:
        return web.json_response({"error": "secret stack trace"}, status=500)

    engine.script = fail
    answer = await client.post(PATH, json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_error")
    assert "stack trace" not in answer.text


@pytest.mark.parametrize("path", STREAMS)
async def test_the_engines_own_refusal_is_told_in_the_endpoints_shape(
    client: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    async def refuse(request: EngineRequest) -> web.StreamResponse:
        error = {"message": "too long", "type": "BadRequestError", "code": 400, "param": "prompt"}
        return web.json_response({"error": error}, status=400)

    engine.script = refuse
    answer = await client.post(path, json=STREAMS[path])
    assert answer.status_code == 400
    assert "x-ratelimit-remaining-tokens" in answer.headers
    error = answer.json()["error"]
    assert (error["message"], error["type"]) == ("too long", "invalid_request_error")
    if path != "/v1/messages":
        assert (error["code"], error["param"]) == ("engine_refused", "prompt")


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [(400, "engine_refused", 1), (429, "engine_busy", 0), (500, "engine_error", 0)],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_the_engine_did_not_answer_costs_no_tokens(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
    stream: bool,
    status: int,
    code: str,
    requests: int,
) -> None:
    """One that the engine had to read counts as a request; one that it did not, as nothing."""

    async def turn_away(request: EngineRequest) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    engine.script = turn_away
    # Ten a minute: one refills in six seconds.
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000, requests_per_minute=10)
    async with start_gateway(plans_file=plans) as gateway, caller(gateway, api_key) as client:
        began_at = time.monotonic()
        answers = [await client.post(PATH, json={**CHAT, "stream": stream}) for _ in range(4)]
        assert {answer.json()["error"]["code"] for answer in answers} == {code}
        await until_day_tokens(flow_server, account_id, 0)
        engine.reset()
        left = int((await client.post(PATH, json=CHAT)).headers["x-ratelimit-remaining-requests"])
        refilled = math.ceil((time.monotonic() - began_at) / 6)
        used = 1 + 4 * requests
        assert 10 - used <= left <= 10 - used + refilled


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [(401, 502, "engine_error"), (403, 502, "engine_error"), (429, 503, "engine_busy")],
)
async def test_what_is_between_gateway_and_engine_is_not_the_callers(
    client: httpx.AsyncClient, engine: ScriptedEngine, status: int, told: int, code: str
) -> None:
    async def turn_away(request: EngineRequest) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    engine.script = turn_away
    answer = await client.post(PATH, json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (told, code)


async def test_an_answer_past_its_life_is_ended_in_words_and_in_the_engine(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> None:
    engine.script = begin_and_never_end
    async with (
        start_gateway(stream_life_s_max=2) as gateway,
        httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=30
        ) as client,
    ):
        streamed = await client.post(PATH, json=STREAM)
        assert (streamed.status_code, b"stream_life_exceeded" in streamed.content) == (200, True)
        whole = await client.post(PATH, json=CHAT)
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "stream_life_exceeded")
    for index in (0, 1):
        await asyncio.wait_for((await engine.request(index)).gone.wait(), 10)


async def test_what_runs_longer_than_a_stopping_gateway_may_is_ended_in_words(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> None:
    engine.script = begin_and_never_end
    gateway = start_gateway(gateway_drain_s_max=1)
    async with (
        gateway,
        httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=30
        ) as client,
    ):
        streams = [
            asyncio.create_task(client.post(path, json=body)) for path, body in STREAMS.items()
        ]
        whole = asyncio.create_task(client.post(PATH, json=CHAT))
        last = await engine.request(4)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        ends = [(await stream).content.rpartition(b"data: ")[2] for stream in streams]
        chat, completions, responses, messages = (orjson.loads(end) for end in ends)
        for error in (chat["error"], completions["error"]):
            assert (error["code"], error["retry_after"]) == ("draining", 1)
        assert (responses["type"], responses["code"]) == ("error", "draining")
        assert (messages["type"], messages["error"]["reason"]) == ("error", "draining")
        refused = await whole
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert refused.headers["retry-after"] == "1"
        await stopping
        await asyncio.wait_for(last.gone.wait(), 10)


async def test_an_engine_that_is_gone_is_503_and_back_when_it_is_back(
    start_gateway: Callable[..., GatewayProcess], api_key: str
) -> None:
    port = free_port()
    first = ScriptedEngine()
    await first.start(port)
    async with (
        start_gateway(upstream_url=first.url) as gateway,
        httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=30
        ) as client,
    ):
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        await first.stop()
        answer = await client.post(PATH, json=CHAT)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] in ("engine_unreachable", "no_capacity")
        assert answer.headers["x-should-retry"] == "true"
        assert (await client.get("/readyz")).status_code == 200, "the line stays open"
        second = ScriptedEngine()
        await second.start(port)
        try:
            while (await client.post(PATH, json=CHAT)).status_code != 200:
                await asyncio.sleep(0.05)
        finally:
            await second.stop()


async def test_a_large_stream_to_a_slow_reader_is_not_piled_up(
    client: httpx.AsyncClient, engine: ScriptedEngine, gateway: GatewayProcess
) -> None:
    event = b"data: " + b"x" * 65_000 + b"\n\n"
    sent = 0

    async def pour(request: EngineRequest) -> web.StreamResponse:
        nonlocal sent
        response = await request.stream()
        for _ in range(2000):  # 130 MB
            await response.write(event)
            sent += len(event)
        return response

    engine.script = pour
    before = sum(worker.memory_info().rss for worker in gateway.workers())
    async with client.stream("POST", PATH, json=STREAM) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        standing = -1
        while sent != standing:  # until the engine is held back by the reader
            standing = sent
            await asyncio.sleep(0.3)
        after = sum(worker.memory_info().rss for worker in gateway.workers())
        assert sent < 40_000_000, "sockets and buffers hold a few MB, not the stream"
        assert after - before < 20_000_000


async def test_a_caller_that_stops_reading_is_cut_off_and_frees_the_engine(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> None:
    async def pour(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        while True:
            await response.write(b"data: " + b"x" * 65_000 + b"\n\n")

    engine.script = pour
    body = orjson.dumps(STREAM)
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api_key}\r\n"
    async with start_gateway(slots=1, write_stall_s_max=0.5) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as stalled:
            stalled.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            seen = await engine.request(0)
            await asyncio.wait_for(seen.gone.wait(), 30)
            hung_up = r'floodgate_client_disconnects_total\{.*state="streaming"\}'
            while await gateway.metric(hung_up) != 1:
                await asyncio.sleep(0.02)
            while await gateway.metric("floodgate_slots_held") != 0:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("wanted", [False, True])
async def test_usage_that_only_the_gateway_asked_for_is_not_shown(
    client: httpx.AsyncClient, engine: ScriptedEngine, wanted: bool
) -> None:
    told = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'

    async def tell(request: EngineRequest) -> web.StreamResponse:
        assert orjson.loads(request.body)["stream_options"] == {"include_usage": True}
        response = await request.stream()
        for piece in (event, told[:30], told[30:], b"data: [DONE]\n\n"):
            await response.write(piece)
        return response

    engine.script = tell
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    answer = await client.post(PATH, json={**STREAM, **options})
    assert answer.content == event + (told if wanted else b"") + b"data: [DONE]\n\n"
