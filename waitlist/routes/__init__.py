"""The waitlist over HTTP. Whoever mounts these routes renders WaitlistError."""

from fastapi import APIRouter

from waitlist.directory import Directory
from waitlist.line.watching import WatchBoard
from waitlist.routes import accounts, admin, invites, line
from waitlist.routes.admin_scaling import KnownModels
from waitlist.routes.credentials import CallerAddress, socket_address


def build_router(
    directory: Directory,
    board: WatchBoard | None = None,
    *,
    caller_address: CallerAddress = socket_address,
    known_models: KnownModels = dict,
) -> APIRouter:
    """All routes. Those of the line are there where the directory has a secret and a board.

    The board must run (`WatchBoard.run`) for streams to be told of changes. `caller_address` tells
    whose network a join or a refused redemption counts for; behind a proxy the socket's address is
    the proxy's.
    `known_models` names what operators can scale, and how far.
    """
    router = APIRouter()
    router.include_router(invites.build_router(directory, caller_address))
    router.include_router(accounts.build_router(directory))
    if directory.signer.usable and board is not None:
        router.include_router(line.build_router(directory, board, caller_address))
    router.include_router(admin.build_router(directory, known_models))
    return router
