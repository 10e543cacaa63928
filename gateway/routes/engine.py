"""`/v1/…` endpoints that reach the engine: plain ASGI, one straight line.

who calls → what is asked → within the rate → a slot → the engine → its bytes to the caller.
"""

import time
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from gateway.deadlines import Deadlines
from gateway.endpoints import Endpoint
from gateway.errors import (
    ApiError,
    EngineBroken,
    EngineUnreachable,
    StreamLifeExceeded,
    Unavailable,
)
from gateway.gate import Gate
from gateway.metrics import ENGINE_FAULTS, TTFT
from gateway.rate_limit import rate_headers
from gateway.relay import Relay
from gateway.request_body import ClientWatch, read_body
from gateway.request_policy import RequestView, view_request

log = structlog.get_logger(__name__)

# The replica that was chosen, and one other when that one gave no byte of an answer.
_ATTEMPTS = 2


class EngineEndpoint:
    """One of the endpoints of gateway.endpoints as an ASGI application.

    Raises ApiError for the middleware to render while no byte is out.
    """

    def __init__(self, endpoint: Endpoint, gate: Gate) -> None:
        self._endpoint = endpoint
        self._gate = gate
        self._ttft = TTFT.labels(endpoint.path)
        self._lives = Deadlines(gate.stream_life_s_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: dict[str, Any] = scope["state"]
        gate = self._gate
        state["phase"] = "auth"
        caller = await gate.authenticator.authenticate(scope["headers"])
        state["caller"] = caller
        state["phase"] = "body"
        body = await read_body(receive, gate.body_bytes_max)
        request = view_request(self._endpoint, body)
        state["model"] = request.model
        state["phase"] = "rate"
        rate = await gate.rate_limiter.take(caller)
        headers = [(k.encode(), v.encode()) for k, v in rate_headers(rate).items()]
        async with ClientWatch(scope, receive) as watch:
            relay = Relay(
                send,
                watch,
                headers=headers,
                shape=self._endpoint.shape,
                request_id=state["request_id"],
            )
            await self._answer(state, request, body, relay)

    async def _answer(
        self, state: dict[str, Any], request: RequestView, body: bytes, relay: Relay
    ) -> None:
        """Runs the exchange within its life, and tells late faults inside the stream."""
        try:
            with self._lives.begin():
                await self._exchange(state, request, body, relay)
            return
        except TimeoutError:
            fault: ApiError = StreamLifeExceeded(
                f"The answer took longer than {self._gate.stream_life_s_max:g} s and was ended.",
                headers={"x-should-retry": "false"},
            )
        except EngineBroken as error:
            ENGINE_FAULTS.labels("broken").inc()
            log.error("engine_broke_off", request_id=state["request_id"], error=str(error))
            fault = Unavailable("The engine broke off while answering.", code="engine_gone")
        except ApiError as error:
            fault = error
        if not relay.started:
            raise fault
        state["code"] = fault.code
        await relay.end_with(fault)

    async def _exchange(
        self, state: dict[str, Any], request: RequestView, body: bytes, relay: Relay
    ) -> None:
        gate = self._gate
        headers = {"x-request-id": state["request_id"]}
        avoid: frozenset[str] = frozenset()
        for attempt in range(1, _ATTEMPTS + 1):
            state["phase"] = "slot"
            slot = await gate.admission.acquire(request.model, self._endpoint.name, avoid)
            try:
                state["phase"] = "prefill"
                state["replica"] = slot.replica.replica_id
                with await gate.upstream.post(
                    slot.replica.url, self._endpoint.path, body, headers
                ) as answer:
                    state["phase"] = "answer"
                    self._ttft.observe(time.perf_counter() - state["began_at"])
                    await relay.pass_on(answer)
                    return
            except EngineUnreachable as error:
                ENGINE_FAULTS.labels("unreachable").inc()
                log.warning("engine_unreachable", attempt=attempt, error=str(error))
                avoid |= {slot.replica.replica_id}
            finally:
                gate.admission.release(slot)
        raise Unavailable(
            "The engine did not answer. Try again shortly.",
            code="engine_unreachable",
            headers={"retry-after": "2", "x-should-retry": "true"},
        )
