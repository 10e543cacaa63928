"""Gateway workers that stand still, and workers that are replaced while a line waits."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import psutil
import pytest
from aiohttp import web

from gateway.connection.bounded_protocol import LINGER_S
from tests.gateway_callers import Listening, caller, load_by_worker, until_arrived
from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
FIRST = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
LAST = b"data: [DONE]\n\n"
QUIET = {"x-floodgate-notices": "off"}
Start = Callable[..., GatewayProcess]


class ConnectionSteps:
    """What httpx did for one request and when; without a step that connects it used an old one."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, float]] = []
        self._connection = ""

    async def note(self, step: str, details: Mapping[str, Any]) -> None:
        """httpx's "trace" extension."""
        self._steps.append((step, time.perf_counter()))
        if step.endswith("connect_tcp.complete"):
            own = details["return_value"].get_extra_info("client_addr")
            self._connection = f" from port {own[1]}"

    def told(self, *, since: Sequence[float]) -> str:
        """The steps in seconds since the last of these moments, such as replacements of workers."""
        zero = since[-1] if since else self._steps[0][1]
        kind = f"a new connection{self._connection}" if self._connects else "a reused connection"
        steps = ", ".join(f"{step} {at - zero:+.3f}" for step, at in self._steps)
        return f"on {kind}, in s since replacement {len(since)}: {steps}"

    @property
    def _connects(self) -> bool:
        return any("connect_tcp" in step for step, _ in self._steps)


async def each_has_both(flow: RedisServer) -> bool:
    """Whether each of the two workers has callers who run and callers who wait."""
    return sum(map(all, (await load_by_worker(flow)).values())) == 2


async def test_a_worker_that_stood_still_longer_than_its_lease_goes_on_with_all_it_had(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, flow_server: RedisServer
) -> None:
    slots = 16
    go_on = asyncio.Event()

    async def begin_and_wait(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        await response.write(FIRST)
        await go_on.wait()
        await response.write(LAST)
        return response

    engine.script = begin_and_wait
    async with (
        start_gateway(slots=slots, workers=2) as gateway,
        caller(gateway, api_key) as client,
    ):
        streams: list[Listening] = []
        first, second = gateway.workers()
        # Each worker gets streams that run and some that wait.
        for count, elsewhere in ((8, second), (12, first), (4, second)):
            elsewhere.suspend()  # it accepts no connection meanwhile
            try:
                streams += [Listening(client, PATH, STREAM, headers=QUIET) for _ in range(count)]
                await until_arrived(flow_server, len(streams))
            finally:
                elsewhere.resume()
        assert await each_has_both(flow_server)
        await engine.request(slots - 1)
        before = await load_by_worker(flow_server)
        assert len(before) == 2
        worker = gateway.workers()[0]
        worker.suspend()
        try:
            while len(after := await load_by_worker(flow_server)) == 2:
                await asyncio.sleep(0.05)
            (living,) = after
            (stopped,) = before.keys() - after.keys()
            # Others get its slots: those who waited at the living worker, and who comes now.
            served = slots + min(before[living].waiting, before[stopped].running)
            await engine.request(served - 1)
        finally:
            worker.resume()
        while len(await load_by_worker(flow_server)) < 2:
            await asyncio.sleep(0.05)
        again = (await load_by_worker(flow_server))[stopped]
        assert again.running == before[stopped].running, "it told of its streams at once"
        go_on.set()
        await asyncio.gather(*(stream.done for stream in streams))
        assert {(stream.status, stream.text) for stream in streams} == {(200, FIRST + LAST)}
        while any(map(any, (await load_by_worker(flow_server)).values())):
            await asyncio.sleep(0.05)
        assert len(engine.requests) == len(streams)
        assert "Traceback" not in gateway.log


async def stands_still_with_open_connection(
    worker: psutil.Process, reader: asyncio.StreamReader
) -> bool:
    """Suspends a worker that stops, unless it ends or closes this connection before."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while any(each.status == psutil.CONN_LISTEN for each in worker.net_connections()):
            await asyncio.sleep(0.01)
        worker.suspend()
        while worker.status() != psutil.STATUS_STOPPED:  # another core may still run it
            await asyncio.sleep(0.001)
        # What it sent before is read: the loop looks at the socket, and then tells the reader.
        for _ in range(3):
            await asyncio.sleep(0)
        if not reader.at_eof():
            return True
        worker.resume()
    return False


async def test_a_request_that_comes_while_a_stopping_worker_stands_still_is_answered(
    start_gateway: Start,
) -> None:
    """Its connection, which was told that it stays open, was to be closed for its silence."""
    ask = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n"
    async with start_gateway(workers=1) as gateway:
        while True:
            (old,) = gateway.workers()
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(ask)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in head
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
            gateway.replace_workers()
            if await stands_still_with_open_connection(old, reader):
                break
            writer.close()  # it was suspended too late, on a busy machine: once more
            while old.is_running():
                await asyncio.sleep(0.05)
        writer.write(ask)
        await asyncio.sleep(2 * LINGER_S)
        old.resume()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in head
        writer.close()


async def test_replacing_all_workers_under_constant_arrivals_breaks_nothing(
    start_gateway: Start, api_key: str, engine: ScriptedEngine
) -> None:
    """Who is told that its worker drains comes back and is served; nobody sees anything else."""

    async def a_few_events(request: EngineRequest) -> web.StreamResponse:
        response = await request.stream()
        for _ in range(5):
            await response.write(FIRST)
            await asyncio.sleep(0.02)
        await response.write(LAST)
        return response

    engine.script = a_few_events
    drained = 0
    broken: list[str] = []
    replaced_at: list[float] = []
    is_over = asyncio.Event()

    async def call_again_and_again(client: httpx.AsyncClient) -> None:
        nonlocal drained
        while not is_over.is_set():
            steps = ConnectionSteps()
            # Without notices each refusal is a status.
            try:
                answer = await client.post(
                    PATH, json=STREAM, headers=QUIET, extensions={"trace": steps.note}
                )
            except httpx.TransportError as error:
                broken.append(f"{error!r}: {steps.told(since=replaced_at)}")
                continue
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "draining", answer.text
                assert answer.headers["retry-after"] == "1"
                drained += 1
                continue
            assert answer.status_code == 200, answer.text
            assert answer.content.endswith(FIRST * 5 + LAST), "an accepted stream ends whole"

    async with start_gateway(slots=2, workers=2) as gateway, caller(gateway, api_key) as client:
        callers = [asyncio.create_task(call_again_and_again(client)) for _ in range(20)]
        for _ in range(2):
            old = {worker.pid for worker in gateway.workers()}
            await engine.request(len(engine.requests) + 10)  # the line is full and moves
            replaced_at.append(time.perf_counter())
            gateway.replace_workers()
            while {worker.pid for worker in gateway.workers()} & old:
                await asyncio.sleep(0.05)
                assert not broken, "\n".join([*broken, gateway.log[-2000:]])
        is_over.set()
        await asyncio.gather(*callers)
        assert not broken, "\n".join([*broken, gateway.log[-2000:]])
        assert drained, "somebody waited at a worker that was replaced"
