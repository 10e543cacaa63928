"""Nothing passes the replica's gate without the secret."""

import json
from typing import Any

import pytest

from serving.engine.replica_gate import (
    DRAIN_PATH,
    SECRET_HEADER,
    STATE_PATH,
    Message,
    ReplicaGate,
    Scope,
)

SECRET = "0123456789abcdef"
VLLM_PATHS = ["/v1/chat/completions", "/v1/models", "/invocations", "/tokenize", "/metrics", "/"]


class Control:
    def __init__(self) -> None:
        self.drains: list[tuple[bool, float]] = []

    def state(self) -> dict[str, Any]:
        return {"state": "running"}

    async def drain(self, *, abort: bool, within_s: float) -> int:
        self.drains.append((abort, within_s))
        return 2


class Asked:
    """One request to a gate before an application that answers 204."""

    def __init__(self) -> None:
        self.control = Control()
        self.sent: list[Message] = []
        self.reached: list[str] = []

    async def __call__(
        self,
        path: str,
        *secrets: str,
        method: str = "GET",
        kind: str = "http",
        query: str = "",
    ) -> int | None:
        async def app(scope: Scope, receive: Any, send: Any) -> None:
            self.reached.append(scope["type"])
            await send({"type": "http.response.start", "status": 204, "headers": []})

        async def send(message: Message) -> None:
            self.sent.append(message)

        async def receive() -> Message:
            return {"type": f"{kind}.connect"}

        headers = [(SECRET_HEADER.encode(), secret.encode("latin-1")) for secret in secrets]
        scope: Scope = {
            "type": kind,
            "path": path,
            "method": method,
            "headers": headers,
            "query_string": query.encode(),
        }
        await ReplicaGate(app, secret=SECRET, control=self.control)(scope, receive, send)
        return self.sent[0].get("status")


@pytest.fixture
def ask() -> Asked:
    return Asked()


@pytest.mark.parametrize("path", [*VLLM_PATHS, STATE_PATH, DRAIN_PATH])
@pytest.mark.parametrize(
    "secrets", [(), ("",), ("wrong",), (SECRET + "x",), ("é",), (SECRET, SECRET), (SECRET, "x")]
)
async def test_refused(ask: Asked, path: str, secrets: tuple[str, ...]) -> None:
    assert await ask(path, *secrets, method="POST") == 401
    assert json.loads(ask.sent[1]["body"])["error"]["code"] == "engine_secret_required"
    assert ask.reached == []
    assert ask.control.drains == []


@pytest.mark.parametrize("path", VLLM_PATHS)
async def test_let_in(ask: Asked, path: str) -> None:
    assert await ask(path, SECRET) == 204


async def test_websockets_are_asked_too(ask: Asked) -> None:
    await ask("/v1/realtime", kind="websocket")
    assert ask.sent == [{"type": "websocket.close", "code": 1008}]
    assert ask.reached == []


async def test_the_servers_own_start_passes(ask: Asked) -> None:
    await ask("", kind="lifespan")
    assert ask.reached == ["lifespan"]


async def test_state(ask: Asked) -> None:
    assert await ask(STATE_PATH, SECRET) == 200
    assert json.loads(ask.sent[1]["body"]) == {"state": "running"}


@pytest.mark.parametrize(
    ("query", "abort", "within_s"),
    [("", False, 0.0), ("abort=true", True, 0.0), ("abort=false&within_s=2.5", False, 2.5)],
)
async def test_drain(ask: Asked, query: str, abort: bool, within_s: float) -> None:
    assert await ask(DRAIN_PATH, SECRET, method="POST", query=query) == 200
    assert json.loads(ask.sent[1]["body"]) == {"in_flight": 2}
    assert ask.control.drains == [(abort, within_s)]


async def test_looking_does_not_drain(ask: Asked) -> None:
    assert await ask(DRAIN_PATH, SECRET) == 204
    assert ask.control.drains == []
