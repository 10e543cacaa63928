"""Who asks: keys and tickets in headers, and from where."""

from collections.abc import Callable

from fastapi import Request

from waitlist.directory import Directory
from waitlist.errors import AdminKeyInvalid, KeyMissing, TicketInvalid
from waitlist.operators.admins import Role
from waitlist.proofs.tickets import Ticket
from waitlist.storage.records import KeyRecord

CallerAddress = Callable[[Request], str]


def socket_address(request: Request) -> str:
    """The other end of the connection; empty where there is none."""
    return request.client.host if request.client else ""


async def account_key(request: Request, directory: Directory) -> KeyRecord:
    """The live key that a request came with.

    Raises:
        KeyMissing, KeyMalformed, KeyUnknown, KeyRevoked.
    """
    api_key = _bearer(request) or request.headers.get("x-api-key", "").strip()
    if not api_key:
        raise KeyMissing
    return await directory.keys.live(api_key)


async def operator(request: Request, directory: Directory, role: Role) -> Directory:
    """The directory in the name of the operator whose key a request came with.

    Raises:
        AdminKeyInvalid, RoleInsufficient.
    """
    admin_key = _bearer(request)
    if not admin_key:
        raise AdminKeyInvalid
    admin = await directory.admins.authorise(admin_key, role)
    return directory.acting_as(f"admin:{admin.admin_id}")


def ticket_of(request: Request, directory: Directory) -> Ticket:
    """The ticket in `Authorization: Bearer`, or in `?ticket=` for EventSource.

    Raises TicketInvalid.
    """
    text = _bearer(request) or request.query_params.get("ticket", "")
    if not text:
        raise TicketInvalid
    return directory.signer.read(text)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
