"""The gateway's count of a prompt beside what vLLM says that it had, on each endpoint."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from gateway.answer.usage import read_usage
from gateway.limits.token_count import TokenCounter
from gateway.request.request_policy import view_request
from tests.moss_checkpoint import write_checkpoint
from tests.prompts_with_tools import BODIES, SHAPES, Body, endpoint_of
from tests.running_floodgate import RunningFloodgate

NAME = "moss-moon-003-sft-plugin"
# As small as vLLM takes it; the prompts have some thousand tokens of single bytes.
SIZES = {"n_layer": 1, "n_head": 4, "n_embd": 128, "rotary_dim": 16, "n_positions": 16_384}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def moss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    """A model whose template writes tools, calls twice, and more around each answer."""
    folder = tmp_path_factory.mktemp("published") / NAME
    write_checkpoint(folder, "bin", SIZES)
    running = RunningFloodgate(
        tmp_path_factory.mktemp("floodgate"),
        model=folder,
        tool_call_parser="moss",
        kv_cache_gib=0.5,
        engine_args=json.dumps({"dtype": "float32", "max_num_batched_tokens": 4096}),
    )
    with running.started():
        yield running


@pytest.fixture(scope="module")
def key(moss: RunningFloodgate) -> str:
    return moss.new_key()


def without_tools(body: Body) -> Body:
    """Instructions, parts and turns alone."""
    member = "input" if "input" in body else "messages"
    kept = [
        {"role": each["role"], "content": each["content"]}
        for each in body[member]
        if each.get("role") in ("system", "user", "assistant")
    ]
    kept = [each for each in kept if "tool_" not in json.dumps(each["content"])]
    return {name: given for name, given in body.items() if name != "tools"} | {member: kept}


@pytest.mark.parametrize("shape", [*SHAPES, "no tools"])
@pytest.mark.parametrize("endpoint", BODIES)
async def test_the_count_is_never_below_what_the_engine_had(
    moss: RunningFloodgate, key: str, endpoint: str, shape: str
) -> None:
    made = {**SHAPES, "no tools": without_tools}[shape](BODIES[endpoint](NAME))
    (replica,) = moss.replicas(NAME)
    ask = await TokenCounter(lambda _: replica.tokenizer).ask(
        view_request(endpoint_of(endpoint), orjson.dumps(made)),
        replica.context_tokens_max,
        template_tokens=replica.template_tokens,
    )
    async with httpx.AsyncClient(base_url=moss.url, timeout=120) as client:
        answer = await client.post(
            f"/v1/{endpoint}", json=made, headers={"authorization": f"Bearer {key}"}
        )
    assert answer.status_code == 200, answer.text
    had: dict[str, Any] = answer.json()["usage"]
    prompt_tokens, _ = read_usage(had)
    assert prompt_tokens is not None
    entries = len(made.get("input", ())) + len(made.get("messages", ()))
    # This template puts no line end between parts, where others have one.
    parts = json.dumps(made).count('"type": "text"')
    around = entries + parts + 8
    if "tools" not in made:  # the template's own instruction counts beside the caller's
        around += 60 + 12 * entries + replica.template_tokens
    assert prompt_tokens <= ask.prompt_tokens <= prompt_tokens + around
