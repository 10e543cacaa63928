"""The gateway while its Redis servers are killed or stopped, and while its workers are."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.gateway_callers import caller, day_tokens, until_day_tokens
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine
from tests.tcp_proxy import TcpProxy
from waitlist.proofs.tokens import new_api_key

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


async def until(client: httpx.AsyncClient, status: int) -> httpx.Response:
    while True:
        answer = await client.post(PATH, json=CHAT)
        if answer.status_code == status:
            return answer
        await asyncio.sleep(0.05)


async def report(client: httpx.AsyncClient) -> dict[str, object]:
    found: dict[str, object] = (await client.get("/readyz")).json()
    return found


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_the_flow_redis_requests_go_on_from_the_local_share(
    client: httpx.AsyncClient, gateway: GatewayProcess, flow_server: RedisServer, how: str
) -> None:
    assert (await client.post(PATH, json=CHAT)).status_code == 200
    fallbacks = await gateway.metric("floodgate_flow_fallbacks_total")
    getattr(flow_server, how)()
    for _ in range(10):
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert await gateway.metric("floodgate_flow_fallbacks_total") > fallbacks
    while (await report(client))["flow"] != "gone":
        await asyncio.sleep(0.05)
    assert (await report(client))["ready"] is True, "the line must not be taken away"
    if how == "kill":
        flow_server.start()
    else:
        flow_server.resume()
    while (await report(client))["flow"] != "ok":
        await asyncio.sleep(0.05)
    assert (await client.post(PATH, json=CHAT)).status_code == 200


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_the_ledger_known_keys_go_on_and_unknown_ones_are_told_why(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    ledger_server: RedisServer,
    how: str,
) -> None:
    async with (
        start_gateway(key_cache_s=0, ledger_deadline_s=2) as gateway,
        httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=30
        ) as client,
    ):
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        getattr(ledger_server, how)()
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        stranger = {"authorization": f"Bearer {new_api_key()}"}
        answer = await client.post(PATH, json=CHAT, headers=stranger)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "ledger_unavailable"
        order = {"code": "fgi-00000-00000", "email": "a@example.com"}
        assert (await client.post("/invites/redeem", json=order)).status_code in (400, 503)
        if how == "kill":
            ledger_server.start()
        else:
            ledger_server.resume()
        while (await client.post(PATH, json=CHAT, headers=stranger)).status_code != 401:
            await asyncio.sleep(0.05)


async def test_a_slow_ledger_is_waited_for_as_long_as_the_setting_says(
    start_gateway: Callable[..., GatewayProcess], ledger_server: RedisServer
) -> None:
    async with TcpProxy(ledger_server.port) as proxy:
        url = ledger_server.url_at(proxy.port)
        async with (
            start_gateway(ledger_url=url, ledger_deadline_s=25) as gateway,
            caller(gateway, new_api_key()) as stranger,
        ):
            proxy.delay_s = 1.2  # there and back: longer than the setting's default
            assert (await stranger.post(PATH, json=CHAT)).status_code == 401
            proxy.delay_s = 0


async def test_a_killed_worker_is_replaced_and_its_slots_come_back(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    """What it had under way is charged in full: nobody can say what of it was used."""

    async def cost_five(request: EngineRequest) -> web.StreamResponse:
        return web.json_response({"usage": {"prompt_tokens": 2, "completion_tokens": 3}})

    engine.script = EngineRequest.wait_until_gone
    plans = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    async with (
        start_gateway(slots=3, queue_wait_s_max=0.3, plans_file=plans) as gateway,
        caller(gateway, api_key) as client,
    ):
        stuck = [asyncio.create_task(client.post(PATH, json=CHAT)) for _ in range(3)]
        await engine.request(2)
        charged = await day_tokens(flow_server, account_id)
        assert charged >= 3 * 1_024, "the plan's default answer, three times"
        assert (await client.post(PATH, json=CHAT)).status_code == 503
        await until_day_tokens(flow_server, account_id, charged)
        (worker,) = gateway.workers()
        worker.kill()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert all(task.exception() is not None for task in stuck), "its connections are lost"
        engine.reset()
        engine.script = cost_five
        await gateway.until_ready()
        await until(client, 200)
        served = len(engine.requests)
        await until_day_tokens(flow_server, account_id, charged + 5 * served)


async def test_sigterm_lets_a_running_answer_finish(
    start_gateway: Callable[..., GatewayProcess], api_key: str, engine: ScriptedEngine
) -> None:
    go_on = asyncio.Event()

    async def slow(request: EngineRequest):  # type: ignore[no-untyped-def]
        response = await request.stream()
        await response.write(b"data: first\n\n")
        await go_on.wait()
        await response.write(b"data: last\n\n")
        return response

    engine.script = slow
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(gateway_drain_s_max=120) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
        client.stream("POST", PATH, json={**CHAT, "stream": True}) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"data: first\n\n"
        gateway.supervisor.terminate()
        refused = False
        while not refused:  # nobody new is let in, nor kept waiting
            try:
                async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as late:
                    await late.get("/healthz")
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                refused = True
        go_on.set()
        assert [piece async for piece in pieces] == [b"data: last\n\n"]
