"""Campaigns: codes for the press, partners or a conference, counted and paused together."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from waitlist.errors import AlreadyExists, NotFound, RequestMalformed
from waitlist.invites.codes import Invites
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment, moment_or_none
from waitlist.storage.records import Invite
from waitlist.terms import PLAN_DEFAULT, check_plan

_NAME_FORM = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_CAMPAIGNS_SHOWN_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it stands. `codes` were made for it, `redeemed` accounts came of them."""

    name: str
    plan: str
    codes: int
    redeemed: int
    created_at: datetime
    paused_at: datetime | None


class Campaigns:
    def __init__(self, ledger: ActingLedger, invites: Invites) -> None:
        self._ledger = ledger
        self._invites = invites

    async def add(self, name: str, plan: str = PLAN_DEFAULT) -> None:
        """Raises RequestMalformed and AlreadyExists."""
        if _NAME_FORM.fullmatch(name) is None:
            raise RequestMalformed(
                "A campaign's name is 1 to 64 of a-z, 0-9, _ and -, the first no hyphen.",
                param="name",
            )
        check_plan(plan)
        added = await self._ledger.run(
            "add_campaign",
            [redis_keys.campaign(name), redis_keys.CAMPAIGNS, redis_keys.AUDIT],
            [self._ledger.now_ms(), self._ledger.actor, name, plan, secrets.token_hex(8)],
        )
        if not added:
            raise AlreadyExists("campaign")

    async def make_codes(
        self, name: str, count: int, *, uses: int = 1, expires_in_s: float | None = None
    ) -> list[Invite]:
        """Codes on the campaign's plan. Raises as `Invites.create`."""
        campaign = await self.read(name)
        return await self._invites.create(
            count, campaign.plan, expires_in_s=expires_in_s, uses=uses, campaign=name
        )

    async def pause(self, name: str, *, paused: bool) -> None:
        """Stops its codes from being redeemed, or lets them be again. Raises NotFound."""
        found = await self._ledger.run(
            "pause_campaign",
            [redis_keys.campaign(name), redis_keys.AUDIT],
            [self._ledger.now_ms(), self._ledger.actor, name, "1" if paused else ""],
        )
        if not found:
            raise NotFound("campaign")

    async def read(self, name: str) -> Campaign:
        """Raises NotFound."""
        for campaign in await self._list([name]):
            return campaign
        raise NotFound("campaign")

    async def list_all(self) -> list[Campaign]:
        """Newest first."""
        names = await self._ledger.run(
            "list_ids", [redis_keys.CAMPAIGNS], [_CAMPAIGNS_SHOWN_MAX, "newest"]
        )
        return await self._list(names)

    async def _list(self, names: list[str]) -> list[Campaign]:
        rows = await self._ledger.records(redis_keys.CAMPAIGN_PREFIX, names)
        return [
            Campaign(
                name=name,
                plan=row["plan"],
                codes=int(row["codes"]),
                redeemed=int(row["redeemed"]),
                created_at=moment(row["created_at_ms"]),
                paused_at=moment_or_none(row.get("paused_at_ms")),
            )
            for name, row in zip(names, rows, strict=True)
            if row
        ]
