"""The ledger as the gateway uses it: keys, usage, the waitlist's routes and chores.

The only module of this package that imports waitlist.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from gateway.auth import Authenticator, Caller, DirectoryUnavailable, revoked_key
from gateway.connection.error_handlers import render_told_error
from gateway.engines.pins import PinsUnknown
from gateway.limits.usage_sums import UsageLedgerUnavailable, UsageRow
from gateway.line.slot import LineLoad
from gateway.settings import GatewaySettings
from gateway.telemetry.metrics import REDIS
from gateway.telemetry.waitlist_metrics import RELEASE_LEADER, WAITLIST_MAILS, WAITLIST_PEOPLE
from waitlist.directory import Directory, open_directory
from waitlist.errors import GaugeUnavailable, LedgerUnavailable, WaitlistError
from waitlist.holders.revocation_feed import RevocationFeed
from waitlist.holders.usage import UsageHistory
from waitlist.line.watching import WatchBoard
from waitlist.proofs import tokens
from waitlist.release.first_requests import FirstRequests
from waitlist.release.release_controller import ReleaseController, ServingLoad
from waitlist.routes import build_router
from waitlist.settings import WaitlistSettings
from waitlist.upkeep import chores

log = structlog.get_logger(__name__)

# Nobody is let in while callers wait longer: half of what people take for broken.
_OVERLOAD_WAIT_S = 5.0
# About 100 bytes each; telling one again costs a call and changes nothing.
_TOLD_MAX = 100_000
# Half of what Prometheus usually waits between two looks; one look of ours is one small script.
_COUNT_EVERY_S = 5.0

Work = tuple[str, Coroutine[Any, Any, None]]


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
                with REDIS.labels("ledger").time():
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
    """The waitlist's usage history as `gateway.limits.usage_sums.UsageLedger`."""

    def __init__(self, history: UsageHistory, first_requests: FirstRequests) -> None:
        self._history = history
        self._first_requests = first_requests
        # Accounts that the ledger knows to have made a request.
        self._told: set[str] = set()

    async def add(self, writer: str, number: int, rows: Sequence[UsageRow]) -> None:
        now_ms = round(time.time() * 1000)
        try:
            await self._history.add(writer, number, rows)
            if new := {row.account_id: now_ms for row in rows if row.account_id not in self._told}:
                await self._first_requests.note(new)
        except WaitlistError as error:  # the batch comes again, and counts once
            raise UsageLedgerUnavailable(str(error)) from error
        if len(self._told) > _TOLD_MAX:
            self._told.clear()
        self._told.update(new)

    async def tokens_used(self, account_id: str, day: int) -> int:
        try:
            return await self._history.tokens_used(account_id, day)
        except WaitlistError as error:
            raise UsageLedgerUnavailable(str(error)) from error


class _EngineGauge:
    """The line's load as the waitlist's ServingGauge."""

    def __init__(self, load: Callable[[], LineLoad | None]) -> None:
        self._load = load

    async def read(self) -> ServingLoad:
        load = self._load()
        if load is None:
            raise GaugeUnavailable("the flow Redis does not answer")
        overload = ""
        if load.wait_s > _OVERLOAD_WAIT_S:
            overload = f"who comes now waits {load.wait_s:.0f} s"
        return ServingLoad(load.capacity_slots, load.demand_slots, overload)


@dataclass(frozen=True, slots=True)
class LedgerSide:
    """Everything of the ledger that one worker needs."""

    keys: LedgerKeys
    usage: LedgerUsage
    releases_by_itself: bool
    _directory: Directory
    _board: WatchBoard

    def routes(self, known_models: Callable[[], Mapping[str, int | None]]) -> APIRouter:
        return build_router(
            self._directory,
            self._board,
            caller_address=_caller_address,
            known_models=known_models,
        )

    async def read_pins(self) -> Mapping[str, int]:
        """As `gateway.engines.pins.ReadPins`."""
        try:
            return await self._directory.replica_pins.all()
        except WaitlistError as error:
            raise PinsUnknown(str(error)) from error

    def work(self, authenticator: Authenticator, load: Callable[[], LineLoad | None]) -> list[Work]:
        """What runs beside the routes; no chores where there is no line to join.

        `load` tells how much the engines can do and are asked to do; None: nobody knows now.
        """
        always: list[Work] = [
            ("ledger-probe", self.keys.watch()),
            ("revocations", self.keys.forget_revoked(authenticator)),
        ]
        if not self._directory.signer.usable:
            return always
        controller = None
        if self.releases_by_itself:
            controller = self._directory.release_controller(_EngineGauge(load))
            always.append(("release", controller.run()))
        return [
            *always,
            ("watch-board", self._board.run()),
            ("waitlist-mails", chores.deliver_mails(self._directory)),
            ("waitlist-line", chores.keep_line(self._directory)),
            ("waitlist-metrics", _count_line(self._directory, controller)),
        ]


async def _count_line(directory: Directory, controller: ReleaseController | None) -> None:
    """Keeps the metrics of the line near its state until cancelled."""
    while True:
        RELEASE_LEADER.set(controller is not None and controller.leads)
        try:
            line = await directory.overview.line()
        except WaitlistError:  # the probe says so; the counts stay as they were
            pass
        else:
            WAITLIST_PEOPLE.labels("waiting").set(line.in_line - line.pending)
            WAITLIST_PEOPLE.labels("pending").set(line.pending)
            WAITLIST_PEOPLE.labels("invited").set(line.invited)
            WAITLIST_MAILS.labels("due").set(line.mails_waiting)
            WAITLIST_MAILS.labels("held").set(line.mails_held)
        await asyncio.sleep(_COUNT_EVERY_S)


@asynccontextmanager
async def open_ledger(settings: GatewaySettings) -> AsyncIterator[LedgerSide]:
    """Nothing is connected to before use."""
    ledger_url = settings.ledger_url.get_secret_value()
    waitlist_settings = WaitlistSettings()
    async with AsyncExitStack() as stack:
        directory = await stack.enter_async_context(
            open_directory(
                ledger_url,
                settings.flow_url.get_secret_value(),
                actor="gateway",
                clock=time.time,
                deadline_s=settings.ledger_deadline_s,
                settings=waitlist_settings,
            )
        )
        feed = RevocationFeed(ledger_url, deadline_s=settings.ledger_deadline_s)
        stack.push_async_callback(feed.close)
        yield LedgerSide(
            LedgerKeys(directory, feed),
            LedgerUsage(directory.usage, directory.first_requests),
            waitlist_settings.release_automatic,
            directory,
            directory.watch_board(),
        )


def _caller_address(request: Request) -> str:
    """As gateway.connection.client_address believes trusted proxies."""
    return str(request.scope["state"]["client_address"])


def tell_waitlist_errors(app: FastAPI) -> None:
    """Has the app tell callers what the waitlist's routes raise."""

    async def render(request: Request, error: Exception) -> Response:
        assert isinstance(error, WaitlistError)
        if error.hint and error.status_code >= 500:  # for whoever can do something about it
            log.warning("waitlist_refused", code=error.code, hint=error.hint)
        return render_told_error(request, error)

    app.add_exception_handler(WaitlistError, render)
