"""Operators' keys and what each role may do.

A viewer reads, and sees no secret. An operator lets people in, makes codes, revokes. An owner does
the rest: plans, other people's data, keys of operators.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from waitlist.errors import AdminKeyInvalid, NotFound, RequestMalformed, RoleInsufficient
from waitlist.proofs import tokens
from waitlist.storage import redis_keys
from waitlist.storage.acting_ledger import ActingLedger, moment, moment_or_none
from waitlist.terms import check_note

Role = Literal["viewer", "operator", "owner"]
# From the least to the most.
ROLES: Final[tuple[Role, ...]] = get_args(Role)
_ADMINS_SHOWN_MAX = 1000
_ID_HEX_DIGITS = 24


@dataclass(frozen=True, slots=True)
class Admin:
    admin_id: str
    hint: str
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewAdmin:
    """An operator's key: the only moment at which it can be read."""

    admin_id: str
    admin_key: str = field(repr=False)


class Admins:
    def __init__(self, ledger: ActingLedger) -> None:
        self._ledger = ledger

    async def add(self, name: str, role: str) -> NewAdmin:
        """Raises RequestMalformed where the role is none or the name is no line."""
        if role not in ROLES:
            raise RequestMalformed(f"role must be one of {', '.join(ROLES)}.", param="role")
        if not name:
            raise RequestMalformed("An operator's key needs a name.", param="name")
        check_note(name)
        admin_key = tokens.new_admin_key()
        key_digest = tokens.digest(admin_key)
        admin_id = _admin_id(key_digest)
        await self._ledger.run(
            "add_admin",
            [redis_keys.admin(admin_id), redis_keys.ADMINS, redis_keys.AUDIT],
            [
                *(self._ledger.now_ms(), self._ledger.actor, admin_id, key_digest),
                *(tokens.key_hint(admin_key), name, role),
            ],
        )
        return NewAdmin(admin_id=admin_id, admin_key=admin_key)

    async def authorise(self, admin_key: str, role: Role) -> Admin:
        """Who shows this key, if that role or a higher one is theirs.

        Asked of the ledger each time: an operator's key that is revoked does nothing more.

        Raises:
            AdminKeyInvalid: malformed, unknown or revoked.
            RoleInsufficient.
        """
        if not tokens.is_well_formed_admin_key(admin_key):
            raise AdminKeyInvalid
        key_digest = tokens.digest(admin_key)
        admin_id = _admin_id(key_digest)
        [row] = await self._ledger.records(redis_keys.ADMIN_PREFIX, [admin_id])
        if row.get("digest") != key_digest or "revoked_at_ms" in row:
            raise AdminKeyInvalid
        admin = _admin(admin_id, row)
        if ROLES.index(admin.role) < ROLES.index(role):
            raise RoleInsufficient(role)
        return admin

    async def list_all(self) -> list[Admin]:
        """Newest first."""
        ids = await self._ledger.run("list_ids", [redis_keys.ADMINS], [_ADMINS_SHOWN_MAX, "newest"])
        rows = await self._ledger.records(redis_keys.ADMIN_PREFIX, ids)
        return [_admin(admin_id, row) for admin_id, row in zip(ids, rows, strict=True) if row]

    async def revoke(self, admin_id: str) -> None:
        """Raises NotFound."""
        found = await self._ledger.run(
            "revoke_admin",
            [redis_keys.admin(admin_id), redis_keys.AUDIT],
            [self._ledger.now_ms(), self._ledger.actor, admin_id],
        )
        if not found:
            raise NotFound("operator's key")


def _admin(admin_id: str, row: dict[str, str]) -> Admin:
    [role] = [known for known in ROLES if known == row["role"]]
    return Admin(
        admin_id=admin_id,
        hint=row["hint"],
        name=row["name"],
        role=role,
        created_at=moment(row["created_at_ms"]),
        revoked_at=moment_or_none(row.get("revoked_at_ms")),
    )


def _admin_id(key_digest: str) -> str:
    return f"adm_{key_digest[:_ID_HEX_DIGITS]}"
