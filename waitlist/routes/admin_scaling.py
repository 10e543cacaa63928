"""Operators and replicas: how many a model is to have, whatever its line asks for."""

from collections.abc import Callable, Collection
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from waitlist.directory import Directory
from waitlist.errors import NotFound
from waitlist.operators.replica_pins import REPLICAS_MAX
from waitlist.routes.bounded_route import StrictBody
from waitlist.routes.credentials import operator

KnownModels = Callable[[], Collection[str]]


class PinBody(StrictBody):
    replicas: Annotated[int, Field(ge=0, le=REPLICAS_MAX)]


def add_routes(router: APIRouter, directory: Directory, known_models: KnownModels) -> None:
    @router.get("/scaling", summary="Pins of replicas (viewer)")
    async def pins(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return {"pins": await acting.replica_pins.all()}

    @router.put("/scaling/{model:path}", summary="Pin a model's replicas (operator)")
    async def pin(model: str, body: PinBody, request: Request) -> dict[str, Any]:
        """Holds until it is taken back, within serving's FLOODGATE_REPLICAS_MAX."""
        acting = await operator(request, directory, "operator")
        if model not in known_models():
            raise NotFound("model; GET /v1/models lists those that there are")
        await acting.replica_pins.set(model, body.replicas)
        return {"model": model, "replicas": body.replicas}

    @router.delete(
        "/scaling/{model:path}", status_code=204, summary="Leave it to its line again (operator)"
    )
    async def unpin(model: str, request: Request) -> None:
        acting = await operator(request, directory, "operator")
        await acting.replica_pins.set(model, None)
