"""The ledger as the gateway uses it: keys, usage, the waitlist's routes and chores.

The only module of this package that imports waitlist.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from gateway.auth import Authenticator, Caller, DirectoryUnavailable, revoked_key
from gateway.error_handlers import render_told_error
from gateway.metrics import REDIS
from gateway.settings import GatewaySettings
from gateway.usage_sums import UsageLedgerUnavailable, UsageRow
from waitlist import chores, tokens
from waitlist.directory import Directory, open_directory
from waitlist.errors import LedgerUnavailable, WaitlistError
from waitlist.revocation_feed import RevocationFeed
from waitlist.routes import build_router
from waitlist.settings import WaitlistSettings
from waitlist.usage import UsageHistory
from waitlist.watching import WatchBoard

log = structlog.get_logger(__name__)

# A write with an fsync takes a millisecond; two seconds is a disk in trouble.
_LEDGER_DEADLINE_S = 2.0

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
    """The waitlist's usage history as `gateway.usage_sums.UsageLedger`."""

    def __init__(self, history: UsageHistory) -> None:
        self._history = history

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


@dataclass(frozen=True, slots=True)
class LedgerSide:
    """Everything of the ledger that one worker needs."""

    keys: LedgerKeys
    usage: LedgerUsage
    _directory: Directory
    _board: WatchBoard

    def routes(self) -> APIRouter:
        return build_router(self._directory, self._board, caller_address=_caller_address)

    def work(self, authenticator: Authenticator) -> list[Work]:
        """What runs beside the routes; no chores where there is no line to join."""
        always: list[Work] = [
            ("ledger-probe", self.keys.watch()),
            ("revocations", self.keys.forget_revoked(authenticator)),
        ]
        if not self._directory.signer.usable:
            return always
        return [
            *always,
            ("watch-board", self._board.run()),
            ("waitlist-mails", chores.deliver_mails(self._directory)),
            ("waitlist-line", chores.keep_line(self._directory)),
        ]


@asynccontextmanager
async def open_ledger(settings: GatewaySettings) -> AsyncIterator[LedgerSide]:
    """Nothing is connected to before use."""
    ledger_url = settings.ledger_url.get_secret_value()
    async with AsyncExitStack() as stack:
        directory = await stack.enter_async_context(
            open_directory(
                ledger_url,
                settings.flow_url.get_secret_value(),
                actor="gateway",
                clock=time.time,
                deadline_s=_LEDGER_DEADLINE_S,
                settings=WaitlistSettings(),
            )
        )
        feed = RevocationFeed(ledger_url, deadline_s=_LEDGER_DEADLINE_S)
        stack.push_async_callback(feed.close)
        yield LedgerSide(
            LedgerKeys(directory, feed),
            LedgerUsage(directory.usage),
            directory,
            directory.watch_board(),
        )


def _caller_address(request: Request) -> str:
    """As gateway.client_address believes trusted proxies."""
    return str(request.scope["state"]["client_address"])


def tell_waitlist_errors(app: FastAPI) -> None:
    """Has the app tell callers what the waitlist's routes raise."""

    async def render(request: Request, error: Exception) -> Response:
        assert isinstance(error, WaitlistError)
        return render_told_error(request, error)

    app.add_exception_handler(WaitlistError, render)
