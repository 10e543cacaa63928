"""What an account is charged in the end, with answers that a real vLLM has given."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.gateway_callers import until_day_tokens, until_usage
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, EngineRequest, ScriptedEngine

pytestmark = pytest.mark.integration

FIXTURES = Path(__file__).parents[2] / "fixtures" / "vllm_0_29"
Body = dict[str, object]
CHAT: Body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
COMPLETIONS: Body = {"model": MODEL, "prompt": ["one", "two"], "n": 2, "max_tokens": 10}
RESPONSES: Body = {"model": MODEL, "input": "hello"}
MESSAGES: Body = {**CHAT, "max_tokens": 8}
# A recorded answer; the request; and what the engine said that it cost, prompt and output.
CASES: dict[str, tuple[str, Body, tuple[int, int]]] = {
    "chat_whole.json": ("chat/completions", CHAT, (37, 8)),
    "chat_whole_n2.json": ("chat/completions", {**CHAT, "n": 2}, (37, 16)),
    "chat_stream.sse": ("chat/completions", CHAT, (37, 8)),
    "chat_stream_n2.sse": ("chat/completions", {**CHAT, "n": 2}, (37, 16)),
    "completions_whole_prompts2_n2.json": ("completions", COMPLETIONS, (8, 20)),
    "completions_stream_prompts2_n2.sse": ("completions", COMPLETIONS, (8, 20)),
    "responses_whole.json": ("responses", RESPONSES, (37, 8)),
    "responses_stream.sse": ("responses", RESPONSES, (37, 8)),
    "messages_whole.json": ("messages", MESSAGES, (37, 8)),
    "messages_stream.sse": ("messages", MESSAGES, (37, 8)),
}


async def ask(client: httpx.AsyncClient, engine: ScriptedEngine, name: str) -> bytes:
    """The request of a case, which the engine answers as it was recorded."""
    path, body, _ = CASES[name]
    recorded = (FIXTURES / name).read_bytes()
    stream = name.endswith(".sse")

    async def play(request: EngineRequest) -> web.StreamResponse:
        if not stream:
            return web.Response(body=recorded, content_type="application/json")
        response = await request.stream()
        for at in range(0, len(recorded), 500):
            await response.write(recorded[at : at + 500])
        return response

    engine.script = play
    answer = await client.post(f"/v1/{path}", json={**body, "stream": stream})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("name", CASES)
async def test_the_days_use_is_what_the_engine_said(
    client: httpx.AsyncClient, engine: ScriptedEngine, name: str
) -> None:
    prompt_tokens, output_tokens = CASES[name][2]
    seen = await ask(client, engine, name)
    hidden = name.endswith(".sse") and name.startswith(("chat", "completions"))
    assert (b'"usage":{' in seen) is not hidden, "what only the gateway asked for is not shown"
    (day,) = await until_usage(client)
    assert day["models"] == {
        MODEL: {"requests": 1, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    }


async def test_the_budget_of_the_day_is_corrected_to_what_was_used(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    account_id: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
    tmp_path: Path,
) -> None:
    plans_file = write_plans(tmp_path / "plans", tokens_per_day=1_000_000)
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(plans_file=plans_file) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
    ):
        used = 0
        for name, (_, _, tokens) in CASES.items():
            await ask(client, engine, name)
            used += sum(tokens)
        await until_day_tokens(flow_server, account_id, used)
