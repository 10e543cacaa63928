"""One request through the whole API before a replica is published.

The first conversation takes vLLM seconds longer than the second (2.6 s on two cores: chat
template, sampler, structured output). Nobody who waits in line should pay for that, and a replica
that cannot answer should fail its start instead of a person's request.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from serving.engine.replica_gate import ASGIApp, Message, Scope
from serving.errors import StartFailed

_ANSWER_S_MAX = 120.0

_BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
    "completions": {"prompt": "Hello", "max_tokens": 1},
    "embeddings": {"input": "Hello"},
}


async def get_first_answer(api: ASGIApp, model: str, endpoints: tuple[str, ...]) -> None:
    """Ask one of the endpoints. Raises StartFailed where there is none, on a 5xx or silence."""
    endpoint = next((known for known in _BODIES if known in endpoints), None)
    if endpoint is None:
        raise StartFailed(f"{model} neither generates text nor embeds it: it cannot be served.")
    request = json.dumps({"model": model, **_BODIES[endpoint]}).encode()
    try:
        status, answer = await asyncio.wait_for(
            _post(api, f"/v1/{endpoint}", request), timeout=_ANSWER_S_MAX
        )
    except TimeoutError as error:
        raise StartFailed(f"The engine gave no first answer in {_ANSWER_S_MAX:.0f} s.") from error
    # A 4xx is a model's own rule, for example a template that wants a system message.
    if status >= 500:
        raise StartFailed(f"The engine's first answer was {status}: {answer[:300]!r}")


async def _post(api: ASGIApp, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of a POST that is made in this process, over no socket."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }
    sent: list[Message] = []
    received = False

    async def receive() -> Message:
        nonlocal received
        if received:
            # The client stays; whoever listens for its leaving is cancelled with the request.
            await asyncio.Event().wait()
        received = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await api(scope, receive, send)
    status = next((int(message["status"]) for message in sent if "status" in message), 500)
    return status, b"".join(message.get("body", b"") for message in sent)
