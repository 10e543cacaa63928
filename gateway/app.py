"""The gateway's one place of wiring: settings in, ASGI application out."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway import buffered_values, redis_keys
from gateway.admission import Admission
from gateway.auth import Authenticator, Caller, DirectoryUnavailable, revoked_key
from gateway.capacity import Capacity, FlowCapacity, UpstreamCapacity
from gateway.client_address import trusted_networks
from gateway.collector import tame_garbage_collector
from gateway.deadlines import Deadlines
from gateway.draining import when_told_to_stop
from gateway.endpoints import ENDPOINTS
from gateway.error_handlers import (
    render_http_exception,
    render_told_error,
    render_validation_error,
)
from gateway.gate import Gate
from gateway.limits import Limits
from gateway.middleware import RequestLayer
from gateway.openapi import document_engine_endpoints
from gateway.plans import Plans
from gateway.pool_line import LineBounds
from gateway.readiness import Readiness
from gateway.redis_channel import FlowChannel
from gateway.redis_client import FlowRedis
from gateway.request_policy import PolicyBounds
from gateway.routes import models, operations, queue
from gateway.routes.engine import EngineEndpoint
from gateway.settings import GatewaySettings
from gateway.token_count import TokenCounter
from gateway.upstream import Upstream
from gateway.usage_sums import UsageLedgerUnavailable, UsageRow
from gateway.waiting import LineEntrance, NoticeTimes
from waitlist import tokens
from waitlist.directory import Directory, open_directory
from waitlist.errors import LedgerUnavailable, WaitlistError
from waitlist.revocation_feed import RevocationFeed
from waitlist.routes import build_router as build_invite_router
from waitlist.usage import UsageHistory

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
        RequestLayer,
        body_bytes_max=settings.body_bytes_max,
        trusted_proxies=trusted_networks(settings.trusted_proxies),
        shortcuts=engine_endpoints,
    )
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(RequestValidationError, render_validation_error)
    app.add_exception_handler(WaitlistError, _render_waitlist_error)
    document_engine_endpoints(app, _policy_bounds(settings))
    return app


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI, settings: GatewaySettings, engine_endpoints: dict[str, ASGIApp]
) -> AsyncIterator[None]:
    clock = time.monotonic
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(buffered_values.write)
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
            )
        )
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
        admission = Admission(flow, capacity, _line_bounds(settings), clock=clock)
        stack.push_async_callback(admission.stop)
        grants = FlowChannel(
            settings.flow_url.get_secret_value(),
            redis_keys.grants_channel(admission.worker_id),
            deadline_s=settings.flow_deadline_s,
        )
        stack.push_async_callback(grants.close)
        readiness = Readiness(flow, capacity, lambda: keys.available)
        usage = LedgerUsage(settings.ledger_url.get_secret_value())
        stack.push_async_callback(usage.close)
        limits = Limits(
            flow,
            usage,
            live_workers=lambda: admission.live_workers,
            clock=clock,
            wall_clock=time.time,
        )
        stack.push_async_callback(limits.close)
        plans = Plans(settings.plans_file)
        gate = Gate(
            authenticator=authenticator,
            plans=plans,
            counter=TokenCounter(lambda model: _tokenizer_folder(settings, capacity, model)),
            limits=limits,
            capacity=capacity,
            admission=admission,
            entrance=LineEntrance(admission, _notice_times(settings), clock=clock),
            upstream=upstream,
            bounds=_policy_bounds(settings),
            cache_salt_secret=_cache_salt_secret(settings),
            body_bytes_max=settings.body_bytes_max,
            lives=Deadlines(settings.stream_life_s_max),
        )
        engine_endpoints.update((e.path, EngineEndpoint(e, gate)) for e in ENDPOINTS)
        _mount(app, settings, gate, capacity, readiness, directory, engine_endpoints)
        for name, work in (
            ("capacity", capacity.watch()),
            ("lines", admission.serve_lines()),
            ("grants", admission.receive_grants(grants)),
            ("ledger-probe", keys.watch()),
            ("revocations", keys.forget_revoked(authenticator)),
            ("plans", plans.watch()),
            ("usage", limits.keep_books()),
            ("metrics", buffered_values.keep_written()),
        ):
            stack.push_async_callback(_stop, _start(name, work))

        def drain() -> None:
            readiness.stopping = True
            admission.drain()

        when_told_to_stop(drain, replaced_drain_s_max=settings.replaced_drain_s_max)
        tame_garbage_collector()
        yield
        drain()


def _mount(
    app: FastAPI,
    settings: GatewaySettings,
    gate: Gate,
    capacity: Capacity,
    readiness: Readiness,
    directory: Directory,
    engine_endpoints: Mapping[str, ASGIApp],
) -> None:
    for path, endpoint in engine_endpoints.items():
        app.router.routes.append(Route(path, endpoint, methods=["POST"]))
    app.include_router(models.build_router(gate.authenticator, gate.plans, capacity))
    app.include_router(queue.build_router(gate.authenticator, gate.admission))
    app.include_router(build_invite_router(directory))
    app.include_router(
        operations.build_router(
            readiness,
            settings.metrics_token.get_secret_value(),
            trusted_networks(settings.trusted_proxies),
        )
    )


def _policy_bounds(settings: GatewaySettings) -> PolicyBounds:
    return PolicyBounds(
        choices_max=settings.choices_max, embedding_inputs_max=settings.embedding_inputs_max
    )


def _capacity(settings: GatewaySettings, flow: FlowRedis, upstream: Upstream) -> Capacity:
    if settings.upstream_url:
        return UpstreamCapacity(
            upstream, url=settings.upstream_url.rstrip("/"), slots=settings.slots
        )
    return FlowCapacity(flow, upstream, clock=time.monotonic)


def _line_bounds(settings: GatewaySettings) -> LineBounds:
    return LineBounds(
        tickets_max=settings.queue_length_max,
        wait_s_max=settings.queue_wait_s_max,
        bytes_max=settings.queue_bytes_max,
    )


def _notice_times(settings: GatewaySettings) -> NoticeTimes:
    never = float("inf")
    return NoticeTimes(
        first_stream_s=settings.queue_notice_stream_s if settings.queue_notices else never,
        first_json_s=settings.queue_notice_json_s if settings.queue_notices else never,
        every_s=settings.queue_notice_every_s,
    )


def _cache_salt_secret(settings: GatewaySettings) -> bytes:
    secret = settings.cache_salt_secret.get_secret_value()
    return (secret or settings.engine_secret.get_secret_value()).encode()


def _tokenizer_folder(settings: GatewaySettings, capacity: Capacity, model: str) -> str:
    """That of one of the model's replicas where it is on this machine too, else the setting's."""
    pool = capacity.view.by_model.get(model)
    for replica in pool.replicas if pool else ():
        if replica.tokenizer and Path(replica.tokenizer).is_dir():
            return replica.tokenizer
    return settings.tokenizer


async def _render_waitlist_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WaitlistError)
    return render_told_error(request, error)


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


class LedgerUsage:
    """The waitlist's usage history as `gateway.usage_sums.UsageLedger`."""

    def __init__(self, ledger_url: str) -> None:
        self._history = UsageHistory(ledger_url, clock=time.time, deadline_s=_LEDGER_DEADLINE_S)

    async def add(self, writer: str, number: int, rows: Sequence[UsageRow]) -> None:
        try:
            await self._history.add(writer, number, rows)
        except WaitlistError as error:
            raise UsageLedgerUnavailable(str(error)) from error

    async def tokens_used(self, account_id: str, day: int) -> int:
        try:
            return await self._history.tokens_used(account_id, day)
        except WaitlistError as error:
            raise UsageLedgerUnavailable(str(error)) from error

    async def close(self) -> None:
        await self._history.close()
