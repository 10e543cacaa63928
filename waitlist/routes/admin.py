"""The operators' API: `Authorization: Bearer fga-…`, each action in the audit."""

from fastapi import APIRouter

from waitlist.directory import Directory
from waitlist.routes import admin_codes, admin_line, admin_people, admin_scaling
from waitlist.routes.bounded_route import BoundedRoute

_REFUSALS: dict[int | str, dict[str, str]] = {
    401: {"description": "invalid_admin_key"},
    403: {"description": "role_insufficient"},
}


def build_router(directory: Directory, known_models: admin_scaling.KnownModels) -> APIRouter:
    router = APIRouter(
        prefix="/admin", route_class=BoundedRoute, tags=["operators"], responses=_REFUSALS
    )
    admin_line.add_routes(router, directory)
    admin_codes.add_routes(router, directory)
    admin_people.add_routes(router, directory)
    admin_scaling.add_routes(router, directory, known_models)
    return router
