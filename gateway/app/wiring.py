"""The one place of wiring: settings in, ASGI application out."""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.app.ledger import LedgerSide, open_ledger, tell_waitlist_errors
from gateway.app.loops import start_loop, stop_loop
from gateway.app.terms import (
    cache_salt_secret,
    line_bounds,
    notice_times,
    policy_bounds,
    tokenizer_folder,
)
from gateway.auth import Authenticator
from gateway.connection.client_address import trusted_networks
from gateway.connection.draining import when_told_to_stop
from gateway.connection.error_handlers import (
    raise_on,
    render_http_exception,
    render_validation_error,
)
from gateway.connection.middleware import RequestLayer
from gateway.endpoints import ENDPOINTS
from gateway.engines.capacity import Capacity, FlowCapacity, UpstreamCapacity
from gateway.engines.deadlines import Deadlines
from gateway.engines.pins import tell_pins
from gateway.engines.pools import PoolView
from gateway.engines.routing import Routing
from gateway.engines.upstream import Upstream
from gateway.flow import redis_keys
from gateway.flow.redis_channel import FlowChannel
from gateway.flow.redis_client import FlowRedis
from gateway.gate import Gate
from gateway.limits.flow_limits import Limits
from gateway.limits.plans import Plans
from gateway.limits.token_count import TokenCounter
from gateway.line.admission import Admission
from gateway.openapi import document_engine_endpoints
from gateway.readiness import Readiness
from gateway.routes import models, operations, queue
from gateway.routes.engine import EngineEndpoint
from gateway.settings import GatewaySettings
from gateway.telemetry import buffered_values
from gateway.telemetry.collector import tame_garbage_collector
from gateway.waiting import LineEntrance


def create_app(settings: GatewaySettings, plans: Plans, routing: Routing) -> ASGIApp:
    """One worker's application. Clients connect in its lifespan, inside the worker's loop."""
    app = FastAPI(
        title="Floodgate",
        summary="Language models behind an invite-gated, fair waiting line.",
        version=version("floodgate"),
        docs_url=None,
        redoc_url=None,
        lifespan=lambda app: _lifespan(app, settings, plans, routing, engine_endpoints),
    )
    # Filled in the lifespan, once there is a loop to connect clients in.
    engine_endpoints: dict[str, ASGIApp] = {}
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(RequestValidationError, render_validation_error)
    tell_waitlist_errors(app)
    # Whatever nobody else renders is the request layer's, around everything of the framework's.
    app.add_exception_handler(Exception, raise_on)
    document_engine_endpoints(app, policy_bounds(settings))
    return RequestLayer(
        app,
        body_bytes_max=settings.body_bytes_max,
        trusted_proxies=trusted_networks(settings.trusted_proxies),
        shortcuts=engine_endpoints,
    )


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI,
    settings: GatewaySettings,
    plans: Plans,
    routing: Routing,
    engine_endpoints: dict[str, ASGIApp],
) -> AsyncIterator[None]:
    clock = time.monotonic
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(buffered_values.write)
        flow = FlowRedis(
            settings.flow_url.get_secret_value(), deadline_s=settings.flow_deadline_s, clock=clock
        )
        stack.push_async_callback(flow.close)
        ledger = await stack.enter_async_context(open_ledger(settings))
        upstream = Upstream(
            engine_secret=settings.engine_secret.get_secret_value(),
            api_key=settings.upstream_api_key.get_secret_value(),
        )
        stack.push_async_callback(upstream.close)
        capacity = _capacity(settings, flow, upstream)
        authenticator = _authenticator(settings, ledger)
        admission = Admission(flow, capacity, line_bounds(settings), clock=clock)
        stack.push_async_callback(admission.stop)
        grants = FlowChannel(
            settings.flow_url.get_secret_value(),
            redis_keys.grants_channel(admission.worker_id),
            deadline_s=settings.flow_deadline_s,
        )
        stack.push_async_callback(grants.close)
        readiness = Readiness(flow, capacity, lambda: ledger.keys.available)
        limits = _limits(flow, ledger, admission)
        stack.push_async_callback(limits.close)
        gate = _gate(
            settings,
            plans,
            routing,
            authenticator,
            limits,
            capacity,
            admission,
            upstream,
            readiness,
        )
        engine_endpoints.update((e.path, EngineEndpoint(e, gate)) for e in ENDPOINTS)
        _mount(app, settings, gate, capacity, readiness, engine_endpoints)
        app.include_router(ledger.routes(lambda: _replicas_max(capacity.view)))
        for name, work in (
            ("capacity", capacity.watch()),
            ("lines", admission.serve_lines()),
            ("grants", admission.receive_grants(grants)),
            ("plans", gate.plans.watch()),
            ("routes", gate.routing.watch()),
            ("usage", limits.keep_books()),
            ("metrics", buffered_values.keep_written()),
            ("pins", tell_pins(flow, ledger.read_pins)),
            *ledger.work(authenticator, lambda: admission.load if flow.available else None),
        ):
            stack.push_async_callback(stop_loop, start_loop(name, work))

        def drain() -> None:
            readiness.stopping = True
            admission.drain()

        when_told_to_stop(drain, replaced_drain_s_max=settings.replaced_drain_s_max)
        tame_garbage_collector()
        yield
        drain()


def _gate(
    settings: GatewaySettings,
    plans: Plans,
    routing: Routing,
    authenticator: Authenticator,
    limits: Limits,
    capacity: Capacity,
    admission: Admission,
    upstream: Upstream,
    readiness: Readiness,
) -> Gate:
    """What the endpoints pass through."""
    return Gate(
        authenticator=authenticator,
        plans=plans,
        routing=routing,
        counter=TokenCounter(
            lambda model: tokenizer_folder(settings, capacity, model),
            media_tokens=settings.media_tokens,
        ),
        limits=limits,
        capacity=capacity,
        admission=admission,
        entrance=LineEntrance(admission, notice_times(settings), clock=time.monotonic),
        upstream=upstream,
        bounds=policy_bounds(settings),
        cache_salt_secret=cache_salt_secret(settings),
        prefix_affinity=settings.prefix_affinity,
        body_bytes_max=settings.body_bytes_max,
        lives=Deadlines(settings.stream_life_s_max),
        stopping=lambda: readiness.stopping,
    )


def _mount(
    app: FastAPI,
    settings: GatewaySettings,
    gate: Gate,
    capacity: Capacity,
    readiness: Readiness,
    engine_endpoints: Mapping[str, ASGIApp],
) -> None:
    for path, endpoint in engine_endpoints.items():
        app.router.routes.append(Route(path, endpoint, methods=["POST"]))
    app.include_router(models.build_router(gate.authenticator, gate.plans, gate.routing, capacity))
    app.include_router(queue.build_router(gate.authenticator, gate.admission))
    app.include_router(
        operations.build_router(
            readiness,
            settings.metrics_token.get_secret_value(),
            trusted_networks(settings.trusted_proxies),
        )
    )


def _authenticator(settings: GatewaySettings, ledger: LedgerSide) -> Authenticator:
    return Authenticator(
        ledger.keys,
        cache_s=settings.key_cache_s,
        stale_s_max=settings.key_stale_s_max,
        clock=time.monotonic,
    )


def _limits(flow: FlowRedis, ledger: LedgerSide, admission: Admission) -> Limits:
    return Limits(
        flow,
        ledger.usage,
        live_workers=lambda: admission.live_workers,
        clock=time.monotonic,
        wall_clock=time.time,
    )


def _capacity(settings: GatewaySettings, flow: FlowRedis, upstream: Upstream) -> Capacity:
    if settings.upstream_url:
        return UpstreamCapacity(
            upstream,
            url=settings.upstream_url.rstrip("/"),
            slots=settings.slots,
            clock=time.monotonic,
        )
    return FlowCapacity(flow, upstream, clock=time.monotonic)


def _replicas_max(view: PoolView) -> dict[str, int | None]:
    """The most replicas of each model; None where nobody says."""
    return {pool.name: pool.keeper.replicas_max if pool.keeper else None for pool in view.pools()}
