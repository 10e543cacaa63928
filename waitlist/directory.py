"""Everything that can be done with the waitlist, its invites, accounts and keys, in one place.

async with open_directory(ledger_url, flow_url, actor="cli:root") as directory:
    invites = await directory.create_invites(3, plan="free")
    await directory.releases.release(100)
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from waitlist.holders.accounts import Accounts
from waitlist.holders.keys import Keys
from waitlist.holders.revocations import Tombstones
from waitlist.holders.usage import UsageHistory
from waitlist.invites.campaigns import Campaigns
from waitlist.invites.codes import INVITES_MAX, Invites, invite_id_of
from waitlist.invites.redemptions import Redemptions
from waitlist.line.departures import Departures
from waitlist.line.entries import Entries
from waitlist.line.overview import Overview
from waitlist.line.standing import Standings
from waitlist.line.watching import WatchBoard
from waitlist.mail.delivery import Delivery
from waitlist.mail.messages import redeem_link
from waitlist.mail.outbox import Outbox
from waitlist.operators.admins import Admins
from waitlist.operators.exports import Exports
from waitlist.operators.replica_pins import ReplicaPins
from waitlist.operators.transfers import Imports
from waitlist.proofs import tokens
from waitlist.proofs.proof_of_work import ProofOfWork
from waitlist.proofs.tickets import TicketSigner
from waitlist.release.activation_learner import ActivationLearner
from waitlist.release.first_requests import FirstRequests
from waitlist.release.newcomer_use import NewcomerMeter
from waitlist.release.release_controller import ControllerTimes, ReleaseController, ServingGauge
from waitlist.release.release_door import LineDoor
from waitlist.release.release_sizing import SizingPolicy
from waitlist.release.release_store import ReleaseStore
from waitlist.release.releases import INVITE_LIFE_S_DEFAULT, Releases
from waitlist.release.schedules import Schedules
from waitlist.settings import WaitlistSettings
from waitlist.storage.acting_ledger import ActingLedger, moment
from waitlist.storage.ledger import Ledger
from waitlist.storage.records import (
    BranchRevocation,
    Entry,
    Invite,
    KeyListing,
    KeyRecord,
    Redemption,
    Revocation,
)
from waitlist.terms import INVITE_LIFE_S_MAX, PLAN_DEFAULT

__all__ = ["INVITES_MAX", "INVITE_LIFE_S_MAX", "PLAN_DEFAULT", "Directory", "open_directory"]


class Directory:
    """The parts of one ledger, acting for one actor.

    Every method of every part raises LedgerUnavailable when the ledger is gone, too slow or
    refuses, and LedgerIncompatible when another version wrote it.
    """

    def __init__(
        self,
        ledger: ActingLedger,
        tombstones: Tombstones,
        settings: WaitlistSettings,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds since 1970."""
        self._ledger = ledger
        self._tombstones = tombstones
        self._settings = settings
        self._clock = clock
        self.signer = signer = TicketSigner(settings.waitlist_secret.get_secret_value())
        rules = settings.rules()
        self.invites = Invites(ledger)
        self.redemptions = Redemptions(
            ledger, signer, refusals_per_network_hour=settings.refusals_per_network_hour
        )
        self.keys = Keys(ledger, tombstones)
        self.usage = UsageHistory(ledger)
        self.first_requests = FirstRequests(ledger)
        self.accounts = Accounts(ledger, tombstones)
        self.entries = Entries(ledger, signer, rules)
        self.departures = Departures(ledger, self.entries)
        self.proof_of_work = ProofOfWork(signer, cost=settings.join_proof_cost, clock=clock)
        self.releases = Releases(ledger, signer)
        self.schedules = Schedules(ledger)
        self.campaigns = Campaigns(ledger, self.invites)
        self.outbox = Outbox(ledger)
        self.delivery = Delivery(
            ledger,
            self.entries,
            signer,
            rules,
            mailer=settings.mailer(),
            public_url=settings.public_url,
        )
        self.overview = Overview(ledger)
        self.admins = Admins(ledger)
        self.replica_pins = ReplicaPins(ledger)
        self.imports = Imports(ledger, signer)
        self.exports = Exports(ledger, self.entries)

    def acting_as(self, actor: str) -> "Directory":
        """The same, with another name in the audit."""
        return Directory(
            self._ledger.acting_as(actor), self._tombstones, self._settings, clock=self._clock
        )

    def now(self) -> datetime:
        return moment(self._ledger.now_ms())

    def watch_board(self) -> WatchBoard:
        """A new board for people who watch their places."""
        return WatchBoard(
            self.entries,
            Standings(self._ledger),
            watchers_max=self._settings.watchers_max,
        )

    def release_controller(self, gauge: ServingGauge) -> ReleaseController:
        """Automatic release of this line, as far as the gauge says that there is room."""
        acting = self.acting_as("release")
        store = ReleaseStore(self._ledger.ledger)
        return ReleaseController(
            store=store,
            gauge=gauge,
            door=LineDoor(acting.overview, acting.releases),
            newcomers=NewcomerMeter(self._ledger, self.usage, store),
            learner=ActivationLearner(self._ledger.ledger, invite_life_s=INVITE_LIFE_S_DEFAULT),
            policy=SizingPolicy(target_use=self._settings.release_target_use),
            times=ControllerTimes(),
            clock=self._clock,
        )

    async def release_decisions(self, count: int) -> list[dict[str, Any]]:
        """The newest decisions of automatic release, as stored, newest first."""
        newest = await ReleaseStore(self._ledger.ledger).newest_decisions(count)
        return [json.loads(one.decision.to_json()) | {"released": one.released} for one in newest]

    async def erase_account(self, account_id: str) -> BranchRevocation:
        """Revokes an account and erases its address and its place. Raises NotFound."""
        return await self.departures.erase_with_account(self.accounts, account_id)

    def redeem_link(self, code: str) -> str:
        """Where a code is redeemed."""
        return redeem_link(self._settings.public_url, code)

    def shown_code(self, entry: Entry) -> str | None:
        """The code of an invited place, where there is no mail server that sends it."""
        if self._settings.mailer() is not None or entry.state != "invited" or not entry.batch_id:
            return None
        code = self.signer.code(entry.entry_id, entry.batch_id)
        return code if invite_id_of(tokens.digest(code)) == entry.invite_id else None

    async def ping(self) -> None:
        """Returns when the ledger answers."""
        await self._ledger.ping()

    # What the gateway and the launcher ask for most, without naming the part.

    async def create_invites(
        self,
        count: int,
        plan: str = PLAN_DEFAULT,
        *,
        note: str = "",
        expires_in_s: float | None = None,
    ) -> list[Invite]:
        """See Invites.create."""
        return await self.invites.create(count, plan, note=note, expires_in_s=expires_in_s)

    async def revoke_invite(self, code: str) -> None:
        """See Invites.revoke."""
        await self.invites.revoke(code)

    async def redeem(
        self, code: str, email: str, *, idempotency_key: str = "", network: str = ""
    ) -> Redemption:
        """See Redemptions.redeem."""
        return await self.redemptions.redeem(
            code, email, idempotency_key=idempotency_key, network=network
        )

    async def find_key(self, api_key: str) -> KeyRecord | None:
        """See Keys.find."""
        return await self.keys.find(api_key)

    def list_keys(self) -> AsyncGenerator[KeyListing]:
        """See Keys.list_all."""
        return self.keys.list_all()

    async def revoke_key(self, key_id: str) -> Revocation | None:
        """See Keys.revoke."""
        return await self.keys.revoke(key_id)


@asynccontextmanager
async def open_directory(
    ledger_url: str,
    flow_url: str,
    *,
    actor: str = "api",
    clock: Callable[[], float] = time.time,
    deadline_s: float = 2.0,
    settings: WaitlistSettings | None = None,
) -> AsyncIterator[Directory]:
    """A directory on two Redis servers, closed at the end. Nothing is connected to before use.

    Without `settings` there is no line to join: codes, accounts and keys alone.

    Raises:
        LedgerUnavailable, ValueError: the ledger's or the flow URL is none of a Redis.
    """
    ledger = Ledger(ledger_url, deadline_s=deadline_s)
    tombstones = Tombstones(flow_url, deadline_s=deadline_s)
    acting = ActingLedger(ledger, clock=clock, actor=actor)
    try:
        yield Directory(
            acting, tombstones, settings or WaitlistSettings.model_construct(), clock=clock
        )
    finally:
        await ledger.close()
        await tombstones.close()
