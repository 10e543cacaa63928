"""The gateway's one place of wiring: settings in, ASGI application out."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.admission import Admission
from gateway.auth import Authenticator, Caller, DirectoryUnavailable, revoked_key
from gateway.capacity import Capacity, FlowCapacity, UpstreamCapacity
from gateway.collector import tame_garbage_collector
from gateway.endpoints import ENDPOINTS
from gateway.error_shapes import ErrorShape, error_body
from gateway.errors import ApiError, InvalidRequest, MethodNotAllowed, NotFound
from gateway.gate import Gate
from gateway.middleware import RequestLayer
from gateway.openapi import document_engine_endpoints
from gateway.rate_limit import RateLimiter
from gateway.readiness import Readiness
from gateway.redis_client import FlowRedis
from gateway.routes import models, operations
from gateway.routes.engine import EngineEndpoint
from gateway.settings import GatewaySettings
from gateway.upstream import Upstream
from waitlist import chores, tokens
from waitlist.directory import Directory, open_directory
from waitlist.errors import LedgerUnavailable, WaitlistError
from waitlist.revocation_feed import RevocationFeed
from waitlist.routes import build_router as build_waitlist_router
from waitlist.settings import WaitlistSettings
from waitlist.watching import WatchBoard

log = structlog.get_logger(__name__)

# A write with an fsync takes a millisecond; two seconds is a disk in trouble.
_LEDGER_DEADLINE_S = 2.0


def create_app(settings: GatewaySettings) -> FastAPI:
    """One worker's application. Clients connect in its lifespan, inside the worker's loop."""
    app = FastAPI(
        title="Floodgate",
        summary="Language models behind an invite-gated, fair waiting line.",
        version=version("floodgate"),
        docs_url=None,
        redoc_url=None,
        lifespan=lambda app: _lifespan(app, settings, engine_endpoints),
    )
    # Filled in the lifespan, once there is a loop to connect clients in.
    engine_endpoints: dict[str, ASGIApp] = {}
    app.add_middleware(
        RequestLayer, body_bytes_max=settings.body_bytes_max, shortcuts=engine_endpoints
    )
    app.add_exception_handler(HTTPException, _render_http_exception)
    app.add_exception_handler(RequestValidationError, _render_validation_error)
    app.add_exception_handler(WaitlistError, _render_waitlist_error)
    document_engine_endpoints(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI, settings: GatewaySettings, engine_endpoints: dict[str, ASGIApp]
) -> AsyncIterator[None]:
    clock = time.monotonic
    async with contextlib.AsyncExitStack() as stack:
        flow = FlowRedis(
            settings.flow_url.get_secret_value(), deadline_s=settings.flow_deadline_s, clock=clock
        )
        flow.start()
        stack.push_async_callback(flow.close)
        directory = await stack.enter_async_context(
            open_directory(
                settings.ledger_url.get_secret_value(),
                settings.flow_url.get_secret_value(),
                actor="gateway",
                clock=time.time,
                deadline_s=_LEDGER_DEADLINE_S,
                settings=WaitlistSettings(),
            )
        )
        board = directory.watch_board()
        upstream = Upstream(
            engine_secret=settings.engine_secret.get_secret_value(),
            api_key=settings.upstream_api_key.get_secret_value(),
        )
        stack.push_async_callback(upstream.close)
        capacity = _capacity(settings, flow, upstream)
        feed = RevocationFeed(settings.ledger_url.get_secret_value(), deadline_s=_LEDGER_DEADLINE_S)
        stack.push_async_callback(feed.close)
        keys = LedgerKeys(directory, feed)
        authenticator = Authenticator(
            keys, cache_s=settings.key_cache_s, stale_s_max=settings.key_stale_s_max, clock=clock
        )
        admission = Admission(flow, capacity)
        stack.push_async_callback(admission.leave)
        readiness = Readiness(flow, capacity, lambda: keys.available)
        gate = Gate(
            authenticator=authenticator,
            rate_limiter=RateLimiter(
                flow,
                requests_per_minute=settings.requests_per_minute,
                live_workers=lambda: admission.live_workers,
                clock=clock,
            ),
            admission=admission,
            upstream=upstream,
            body_bytes_max=settings.body_bytes_max,
            stream_life_s_max=settings.stream_life_s_max,
        )
        engine_endpoints.update((e.path, EngineEndpoint(e, gate)) for e in ENDPOINTS)
        _mount(app, settings, gate, capacity, readiness, engine_endpoints)
        app.include_router(build_waitlist_router(directory, board))
        for name, work in (
            ("capacity", capacity.watch()),
            ("leases", admission.keep_leases()),
            ("ledger-probe", keys.watch()),
            ("revocations", keys.forget_revoked(authenticator)),
            *_waitlist_work(directory, board),
        ):
            stack.push_async_callback(_stop, _start(name, work))
        tame_garbage_collector()
        yield
        readiness.stopping = True


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
    app.include_router(models.build_router(gate.authenticator, capacity))
    app.include_router(
        operations.build_router(readiness, settings.metrics_token.get_secret_value())
    )


def _waitlist_work(
    directory: Directory, board: WatchBoard
) -> list[tuple[str, Coroutine[Any, Any, None]]]:
    """What runs beside the waitlist's routes; nothing where there is no line to join."""
    if not directory.signer.usable:
        return []
    return [
        ("watch-board", board.run()),
        ("waitlist-mails", chores.deliver_mails(directory)),
        ("waitlist-line", chores.keep_line(directory)),
    ]


def _capacity(settings: GatewaySettings, flow: FlowRedis, upstream: Upstream) -> Capacity:
    if settings.upstream_url:
        return UpstreamCapacity(
            upstream, url=settings.upstream_url.rstrip("/"), slots=settings.slots
        )
    return FlowCapacity(flow, upstream, clock=time.monotonic)


def _start(name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.create_task(work, name=name)


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class LedgerKeys:
    """The waitlist's keys as `gateway.auth.KeyDirectory`."""

    # As often as replicas publish; a probe is one PING.
    _PROBE_S = 1.0

    def __init__(self, directory: Directory, feed: RevocationFeed) -> None:
        self._directory = directory
        self._feed = feed
        self.available = False

    def is_well_formed(self, api_key: str) -> bool:
        return tokens.is_well_formed_key(api_key)

    async def find(self, api_key: str) -> Caller | None:
        try:
            record = await self._directory.find_key(api_key)
        except WaitlistError as error:  # gone, or written by another version
            raise DirectoryUnavailable(str(error)) from error
        if record is None:
            return None
        if record.revoked:
            raise revoked_key()
        return Caller(record.key_id, record.account_id, record.plan)

    async def watch(self) -> None:
        """Keeps `available` true to the ledger's state until cancelled."""
        while True:
            try:
                await self._directory.ping()
                self.available = True
            except WaitlistError as error:
                self.available = False
                log.warning("ledger_unavailable", error=str(error))
            await asyncio.sleep(self._PROBE_S)

    async def forget_revoked(self, authenticator: Authenticator) -> None:
        """Drops keys from the worker's cache as the ledger announces their revocation."""
        while True:
            try:
                async for key_id in self._feed.key_ids():
                    authenticator.forget({key_id})
            except LedgerUnavailable:
                await asyncio.sleep(self._PROBE_S)


async def _render_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 404:
        raise NotFound(f"There is nothing at {path}. GET /openapi.json lists what there is.")
    if error.status_code == 405:
        raise MethodNotAllowed(
            f"{request.method} is not possible at {path}.", headers=error.headers or {}
        )
    raise InvalidRequest(str(error.detail))


async def _render_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    raise InvalidRequest(f"{where or 'body'}: {first['msg']}", param=where or None)


async def _render_waitlist_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WaitlistError)
    told = ApiError(error.message, code=error.code, param=error.param)
    told.type = "server_error" if error.status_code >= 500 else "invalid_request_error"
    if error.status_code == 429:
        told.type = "requests"
    request.scope["state"]["code"] = error.code  # for the log line and the metric
    body = error_body(told, ErrorShape.OPENAI, request.scope["state"]["request_id"])
    headers = {}
    if error.retry_after_s is not None:
        headers = {"retry-after": str(error.retry_after_s), "x-should-retry": "true"}
    return Response(body, error.status_code, headers, media_type="application/json")
