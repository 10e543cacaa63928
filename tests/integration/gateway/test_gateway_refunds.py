"""Who waited in vain pays nothing: tokens of the day come back through a real gateway process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from tests.gateway_callers import caller, day_tokens, until_day_tokens, until_waiting
from tests.gateway_process import GatewayProcess
from tests.held_engine import Held
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
both_kinds = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Line:
    """A gateway whose one slot is taken, and what its account is charged for that."""

    def __init__(
        self,
        gateway: GatewayProcess,
        client: httpx.AsyncClient,
        flow: RedisServer,
        account_id: str,
    ) -> None:
        self.gateway = gateway
        self.client = client
        self.charged = 0
        self._flow = flow
        self._account_id = account_id

    async def charged_now(self) -> int:
        return await day_tokens(self._flow, self._account_id)

    async def until_refunded(self) -> None:
        await until_day_tokens(self._flow, self._account_id, self.charged)


StartLine = Callable[..., AbstractAsyncContextManager[Line]]


@pytest.fixture
def start_line(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> StartLine:
    """Makes one with settings of its own; the running request ends with the block."""

    @contextlib.asynccontextmanager
    async def start(**settings: object) -> AsyncIterator[Line]:
        held = Held(engine)
        plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
        gateway = start_gateway(slots=1, plans_file=plans, **settings)
        async with gateway, caller(gateway, api_key) as client:
            line = Line(gateway, client, flow_server, account_id)
            first = asyncio.create_task(client.post(PATH, json=CHAT))
            await engine.request(0)
            line.charged = await line.charged_now()
            assert line.charged > 1_000
            yield line
            held.let_go(1)
            assert (await first).status_code == 200
            assert len(engine.requests) == 1

    return start


@both_kinds
@pytest.mark.parametrize(
    ("settings", "code"),
    [({"queue_wait_s_max": 0.2}, "queue_timeout"), ({"queue_length_max": 0}, "queue_full")],
)
async def test_a_refusal_gives_the_tokens_back(
    start_line: StartLine, stream: bool, settings: dict[str, object], code: str
) -> None:
    async with start_line(**settings) as line:
        refused = await line.client.post(PATH, json={**CHAT, "stream": stream})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, code)
        await line.until_refunded()


@both_kinds
async def test_a_refusal_after_the_status_was_out_gives_the_tokens_back(
    start_line: StartLine, stream: bool
) -> None:
    soon = {"queue_notice_stream_s": 0, "queue_notice_json_s": 0, "queue_wait_s_max": 6}
    async with start_line(**soon) as line:
        try:
            refused = await line.client.post(PATH, json={**CHAT, "stream": stream})
        except httpx.RemoteProtocolError:
            assert not stream, "JSON is cut"
        else:
            assert b'"reason":"queue_timeout"' in refused.content
        await line.until_refunded()


@both_kinds
async def test_hanging_up_in_line_gives_the_tokens_back(
    start_line: StartLine, stream: bool
) -> None:
    async with start_line() as line:
        waiting = asyncio.create_task(line.client.post(PATH, json={**CHAT, "stream": stream}))
        await until_waiting(line.client, 1)
        assert await line.charged_now() == 2 * line.charged
        waiting.cancel()
        await line.until_refunded()


@both_kinds
async def test_a_worker_that_stops_gives_the_tokens_of_who_waited_back(
    start_line: StartLine, stream: bool
) -> None:
    async with start_line(gateway_drain_s_max=30) as line:
        waiting = asyncio.create_task(line.client.post(PATH, json={**CHAT, "stream": stream}))
        await until_waiting(line.client, 1)
        line.gateway.supervisor.terminate()
        refused = await waiting
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        await line.until_refunded()
