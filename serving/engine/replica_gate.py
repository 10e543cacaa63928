"""The outermost ASGI application of a replica: nothing reaches vLLM without the secret.

vLLM's own `api_key` leaves /invocations, /tokenize and /metrics open. This stands before every
path. Ray answers its health checks (/-/healthz) before this application is asked.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SECRET_HEADER = "x-floodgate-engine-secret"  # noqa: S105 - the name, not the secret
STATE_PATH = "/-/replica"
DRAIN_PATH = "/-/drain"

_REFUSED = {
    "error": {
        "message": "This is an engine behind a gate. Ask the gate.",
        "type": "authentication_error",
        "param": None,
        "code": "engine_secret_required",
    }
}


class ReplicaControl(Protocol):
    """What the gate can ask of the replica that it stands in front of."""

    def state(self) -> dict[str, Any]:
        """The replica's state as JSON-ready values."""

    async def drain(self, *, abort: bool, within_s: float) -> int:
        """Take no more work, end or await what is there; requests still running at the end."""


class ReplicaGate:
    """Asks for the secret, then hands the request to vLLM or to the replica's own two paths."""

    def __init__(self, app: ASGIApp, *, secret: str, control: ReplicaControl) -> None:
        self._app = app
        self._secret = secret.encode()
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif not self._knows_secret(scope):
            await _refuse(scope, receive, send)
        elif scope["path"] == STATE_PATH:
            await _send_json(send, 200, self._control.state())
        elif scope["path"] == DRAIN_PATH and scope["method"] == "POST":
            query = parse_qs(scope["query_string"].decode())
            left = await self._control.drain(
                abort=query.get("abort") == ["true"],
                within_s=float(query.get("within_s", ["0"])[0]),
            )
            await _send_json(send, 200, {"in_flight": left})
        else:
            await self._app(scope, receive, send)

    def _knows_secret(self, scope: Scope) -> bool:
        shown = [value for name, value in scope["headers"] if name == SECRET_HEADER.encode()]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._secret)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await _send_json(send, 401, _REFUSED)


async def _send_json(send: Send, status: int, content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
