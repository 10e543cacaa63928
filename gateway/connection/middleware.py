"""The outermost layer, pure ASGI: request ids, errors, access log, request metrics.

`scope["state"]` carries what the layers below learn of a request (caller, model, replica, phase)
for the one log line at its end. Keys, codes and prompts are never put there.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.connection.answer_head import HEAD_EXTENSION, Headers
from gateway.connection.client_address import Network, client_address
from gateway.connection.responses import send_error
from gateway.endpoints import ENDPOINTS, shape_of
from gateway.errors import ApiError, BodyTooLarge, ClientGone, EngineBroken
from gateway.queue_errors import Draining
from gateway.telemetry.metrics import DISCONNECTS, DURATION, REQUESTS, REQUESTS_ACTIVE, labelled

log = structlog.get_logger("gateway.access")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Paths that may stand in a metric's label; anything else a stranger asks for is one label.
_LABELLED = {
    *(endpoint.path for endpoint in ENDPOINTS),
    "/v1/models",
    "/invites/redeem",
    "/waitlist/join",
    "/waitlist/confirm",
    "/waitlist/status",
    "/waitlist/status/stream",
    "/healthz",
    "/readyz",
    "/metrics",
}


class RequestLayer:
    """Wraps the whole application.

    POSTs to the paths of `shortcuts` go to the endpoint at once: the framework's router and three
    layers below would find the same endpoint some 20 µs later.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes_max: int,
        trusted_proxies: Sequence[Network],
        shortcuts: Mapping[str, ASGIApp],
    ) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._body_bytes_max = body_bytes_max
        self._shortcuts = shortcuts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._trusted_proxies)
        REQUESTS_ACTIVE.inc()
        try:
            _check_length(scope, self._body_bytes_max)
            app = self._shortcuts.get(scope["path"]) if scope["method"] == "POST" else None
            await (app or self._app)(scope, receive, exchange.send)
        except ApiError as error:
            await exchange.refuse(error)
        except ClientGone:
            exchange.client_gone()
        except asyncio.CancelledError:
            # By a server that stops and waits no longer; who hangs up is ClientGone.
            await exchange.refuse(Draining(was_running=True))
            raise
        except EngineBroken as error:
            exchange.status = "cut"
            log.error("answer_cut", request_id=exchange.request_id, error=str(error))
            raise  # the server cuts the connection: the client must not take this for an end
        except Exception:
            log.exception("unhandled", request_id=exchange.request_id)
            await exchange.refuse(ApiError("Something went wrong in the gateway."))
        finally:
            REQUESTS_ACTIVE.dec()
            exchange.record()


class _Exchange:
    """One request as the access log sees it."""

    def __init__(self, scope: Scope, send: Send, trusted_proxies: Sequence[Network]) -> None:
        self._scope = scope
        self._send = send
        self.status: int | str = "none"
        self.request_id = _request_id(scope)
        self._id_header = (b"x-request-id", self.request_id.encode())
        self._began_at = time.perf_counter()
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id
        self._state["began_at"] = self._began_at
        head = scope.get("extensions", {}).get(HEAD_EXTENSION, {})
        self._write_head: Callable[[Scope, int, Headers], bool] | None = head.get("write_head")
        peer = scope["client"][0] if scope.get("client") else ""
        self._state["client_address"] = client_address(peer, scope["headers"], trusted_proxies)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = status = message["status"]
            headers = [*message.get("headers", ()), self._id_header]
            if self._write_head is not None and self._write_head(self._scope, status, headers):
                return
            message["headers"] = headers
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        self._state["code"] = error.code
        if self.status == "none":
            await send_error(self.send, error, shape_of(self._scope["path"]), self.request_id)

    def client_gone(self) -> None:
        self._state["code"] = "client_gone"
        model, plan = self._state.get("counted_as", ("", ""))
        DISCONNECTS.labels(self._state.get("phase", "body"), model, plan).inc()

    def record(self) -> None:
        duration_s = time.perf_counter() - self._began_at
        path: str = self._scope["path"]
        label = path if path in _LABELLED else "other"
        code = self._state.get("code", "")
        labelled(REQUESTS, label, str(self.status), code).inc()
        labelled(DURATION, label).observe(duration_s)
        caller = self._state.get("caller")
        log.info(
            "request",
            request_id=self.request_id,
            client=self._state["client_address"] or None,
            method=self._scope["method"],
            path=path[:200],
            status=self.status,
            code=code or None,
            duration_s=round(duration_s, 4),
            key_id=caller.key_id if caller else None,
            account_id=caller.account_id if caller else None,
            model=self._state.get("model", "")[:200] or None,
            replica=self._state.get("replica"),
        )


def _request_id(scope: Scope) -> str:
    """The caller's own id where it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    # Nothing rests on it being a secret, and the system's own random bytes cost 5 µs.
    return f"req_{random.getrandbits(96):024x}"


def _check_length(scope: Scope, bytes_max: int) -> None:
    """Refuses a body that announces itself too large before a byte of it is read."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > bytes_max:
            raise BodyTooLarge(
                f"The body is larger than {bytes_max} bytes.", headers={"connection": "close"}
            )
