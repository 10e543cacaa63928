"""`/v1/…` endpoints that reach the engine: plain ASGI, one straight line.

who calls → what is asked → within the limits → the line → the engine → its bytes to the caller.
"""

from typing import Any

from starlette.types import Receive, Scope, Send

from gateway.answer.answer_times import AnswerTimes
from gateway.answer.relay import Relay
from gateway.auth import Caller
from gateway.endpoints import Endpoint
from gateway.engines.pools import Pool
from gateway.errors import NotFound, RateLimited
from gateway.exchange import Exchange, Work
from gateway.gate import Gate
from gateway.limits.plans import Plan
from gateway.limits.reservation import Reservation
from gateway.line.prefix_affinity import conversation_digest
from gateway.request.request_body import ClientWatch, read_body
from gateway.request.request_policy import RequestView, cache_salt
from gateway.telemetry.line_metrics import REFUSED
from gateway.telemetry.metrics import labelled

# Turns the notices of a waiting caller's place off for one request.
_NOTICES_HEADER = b"x-floodgate-notices"


class EngineEndpoint:
    """One of the endpoints of gateway.endpoints as an ASGI application.

    Raises ApiError for the middleware to render while no byte is out.
    """

    def __init__(self, endpoint: Endpoint, gate: Gate) -> None:
        self._endpoint = endpoint
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: dict[str, Any] = scope["state"]
        gate = self._gate
        state["phase"] = "auth"
        caller = await gate.authenticator.authenticate(scope["headers"])
        state["caller"] = caller
        state["phase"] = "body"
        body = await read_body(receive, gate.body_bytes_max)
        request = await gate.view(self._endpoint, body)
        state["model"] = request.model
        plan = gate.plans.plan_for(caller.plan)
        asked_for, view = request.model, gate.capacity.view
        request = request.for_model(gate.routing.target(asked_for, caller.account_id, view))
        state["model"] = request.model
        pool = view.pool_for(request.model, self._endpoint.name)
        _check_plan(plan, asked_for)
        state["counted_as"] = (request.model, plan.name)  # not before the model is one of ours
        state["phase"] = "limits"
        reservation = await self._reserve(caller, plan, pool, request)
        work = self._work(caller, pool, request, reservation, scope)
        stream, hide_usage = request.stream, not request.wants_usage
        hide_running = pool.is_vllm and request.can_run_usage and not request.wants_running_usage
        del body, request  # a long wait holds one copy: the engine's
        async with ClientWatch(scope, receive) as watch:
            relay = Relay(
                send,
                watch,
                headers=reservation.headers,
                endpoint=self._endpoint,
                stream=stream,
                hide_usage=hide_usage,
                hide_running_usage=hide_running,
                request_id=state["request_id"],
                times=AnswerTimes(
                    state["began_at"],
                    endpoint=self._endpoint.path,
                    model=state["model"],
                    plan=plan.name,
                ),
            )
            exchange = Exchange(gate, work, relay, state)
            try:
                await exchange.run()
            finally:
                exchange.settle()

    async def _reserve(
        self, caller: Caller, plan: Plan, pool: Pool, request: RequestView
    ) -> Reservation:
        ask = await self._gate.counter.ask(
            request,
            pool.context_tokens_max,
            template_tokens=pool.template_tokens,
            output_tokens_default=pool.output_tokens_default,
        )
        try:
            return await self._gate.limits.reserve(caller, plan, ask)
        except RateLimited as error:
            labelled(REFUSED, request.model, plan.name, error.code).inc()
            raise

    def _work(
        self,
        caller: Caller,
        pool: Pool,
        request: RequestView,
        reservation: Reservation,
        scope: Scope,
    ) -> Work:
        secret = self._gate.cache_salt_secret
        apart = secret and not reservation.plan.shares_prefix_cache
        salt = cache_salt(secret, caller.account_id)
        return Work(
            endpoint=self._endpoint,
            pool=pool,
            body=request.body_for_engine(
                output_cap=reservation.output_cap,
                cache_salt=salt if apart else None,
                running_usage=pool.is_vllm,
            ),
            reservation=reservation,
            with_notices=not any(
                name == _NOTICES_HEADER and value.lower() == b"off"
                for name, value in scope["headers"]
            ),
            prefix=self._prefix(pool, request, salt),
        )

    def _prefix(self, pool: Pool, request: RequestView, salt: str) -> str:
        if not self._gate.prefix_affinity or len(pool.replicas) < 2 or not request.choices:
            return ""  # there is nothing to choose, or, in embeddings, nothing to cache
        return conversation_digest(request.texts[: request.beginning], salt)


def _check_plan(plan: Plan, model: str) -> None:
    """By the name that was asked for: a plan with an alias has whatever the alias stands for."""
    if not plan.allows(model):
        raise NotFound(
            f"The model '{model[:200]}' is not part of plan '{plan.name}'. "
            "GET /v1/models lists those that are.",
            code="model_not_found",
            param="model",
        )
