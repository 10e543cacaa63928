"""The request that a replica makes to itself before it is published."""

import asyncio
import json
from typing import Any

import pytest

from serving.engine import first_answer
from serving.engine.first_answer import get_first_answer
from serving.engine.replica_gate import Receive, Scope, Send
from serving.errors import StartFailed


class Api:
    """Answers with a fixed status and keeps what it was asked."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.asked.append((scope["path"], json.loads(message["body"])))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"why", "more_body": False})


@pytest.mark.parametrize(
    ("endpoints", "path"),
    [
        (("completions", "chat/completions"), "/v1/chat/completions"),
        (("completions",), "/v1/completions"),
        (("embeddings",), "/v1/embeddings"),
    ],
)
async def test_asks_what_the_model_can_do(endpoints: tuple[str, ...], path: str) -> None:
    api = Api()
    await get_first_answer(api, "m", endpoints)
    assert [asked[0] for asked in api.asked] == [path]
    assert api.asked[0][1]["model"] == "m"


async def test_a_model_that_can_do_nothing_of_ours_fails_the_start() -> None:
    """Its replica would start for good, and whoever asked for it wait in line."""
    with pytest.raises(StartFailed, match="neither generates text nor embeds"):
        await get_first_answer(Api(), "m", ())


async def test_a_models_own_rule_is_no_failure() -> None:
    await get_first_answer(Api(400), "m", ("completions",))


async def test_a_broken_engine_fails_the_start() -> None:
    with pytest.raises(StartFailed, match="500: b'why'"):
        await get_first_answer(Api(500), "m", ("completions",))


async def test_no_answer_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        await receive()
        raise AssertionError("the client never leaves")

    monkeypatch.setattr(first_answer, "_ANSWER_S_MAX", 0.01)
    with pytest.raises(StartFailed, match="no first answer"):
        await get_first_answer(silent, "m", ("completions",))


async def test_who_listens_for_hang_ups_hears_none() -> None:
    async def listening(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        listener = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not listener.done()
        listener.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    await get_first_answer(listening, "m", ("completions",))
