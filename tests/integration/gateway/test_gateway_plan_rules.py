"""What a plan says of models and of the engine's prefix cache, as the engine gets it."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest

from tests.gateway_process import GatewayProcess
from tests.plans_file import plan, write_plans
from tests.scripted_engine import MODEL, ScriptedEngine
from waitlist.directory import Directory

pytestmark = pytest.mark.integration

PATH = "/v1/chat/completions"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
BODIES = {
    PATH: CHAT,
    "/v1/completions": {"model": MODEL, "prompt": "hello"},
    "/v1/responses": {"model": MODEL, "input": "hello"},
    "/v1/messages": {**CHAT, "max_tokens": 8},
    "/v1/embeddings": {"model": MODEL, "input": "hello"},
}
Start = Callable[..., GatewayProcess]


async def new_key(directory: Directory, plan_name: str, email: str) -> dict[str, str]:
    """Headers with the key of a new account."""
    (invite,) = await directory.create_invites(1, plan_name)
    redemption = await directory.redeem(invite.code, email)
    return {"authorization": f"Bearer {redemption.api_key}"}


async def test_a_model_that_the_plan_does_not_name_is_none(
    start_gateway: Start, api_key: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    plans_file = write_plans(tmp_path / "plans", models=["other-*"])
    headers = {"authorization": f"Bearer {api_key}"}
    async with (
        start_gateway(plans_file=plans_file) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
    ):
        for path, body in BODIES.items():
            answer = await client.post(path, json=body)
            assert answer.status_code == 404, path
            if path != "/v1/messages":  # whose error shape has no code
                assert answer.json()["error"]["code"] == "model_not_found", path
        assert (await client.get("/v1/models")).json()["data"] == []
        assert (await client.get(f"/v1/models/{MODEL}")).status_code == 404
    assert engine.requests == []


async def test_each_account_has_a_part_of_the_prefix_cache_unless_its_plan_shares_it(
    start_gateway: Start, directory: Directory, engine: ScriptedEngine, tmp_path: Path
) -> None:
    plans = [plan("free"), plan("plus", shares_prefix_cache=True)]
    plans_file = tmp_path / "two_plans.yaml"
    plans_file.write_text(
        json.dumps({p.name: p.model_dump(mode="json", exclude={"name"}) for p in plans})
    )
    first = await new_key(directory, "free", "first@example.com")
    second = await new_key(directory, "free", "second@example.com")
    sharing = await new_key(directory, "plus", "sharing@example.com")
    settings = {"plans_file": plans_file, "cache_salt_secret": "a secret", "workers": 2}
    async with (
        start_gateway(**settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):

        async def salts(headers: dict[str, str]) -> set[str | None]:
            """What the engine gets from the account, on every endpoint that has it."""
            begin = len(engine.requests)
            for path, body in BODIES.items():
                close = {**headers, "connection": "close"}  # so that both workers have some
                assert (await client.post(path, json=body, headers=close)).status_code == 200
            bodies = [orjson.loads(request.body) for request in engine.requests[begin:]]
            assert len(bodies) == len(BODIES)
            return {body.get("cache_salt") for body in bodies}

        (of_first,) = await salts(first)
        (of_second,) = await salts(second)
        assert of_first
        assert of_second
        assert of_first != of_second
        assert await salts(first) == {of_first}
        assert await salts(sharing) == {None}
        given = await client.post(PATH, json={**CHAT, "cache_salt": of_first}, headers=second)
        assert given.status_code == 400, "nobody names another's part"
