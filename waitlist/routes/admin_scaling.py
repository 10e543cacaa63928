"""Operators and replicas: how many a model is to have, whatever its line asks for."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from waitlist.directory import Directory
from waitlist.errors import NotFound, RequestMalformed
from waitlist.operators.replica_pins import REPLICAS_MAX
from waitlist.routes.bounded_route import StrictBody
from waitlist.routes.credentials import operator

KnownModels = Callable[[], Mapping[str, int | None]]
"""Model -> the most replicas that it may have, None where nobody says."""


class PinBody(StrictBody):
    replicas: Annotated[int, Field(ge=0, le=REPLICAS_MAX)]


def add_routes(router: APIRouter, directory: Directory, known_models: KnownModels) -> None:
    @router.get("/scaling", summary="Pins of replicas (viewer)")
    async def pins(request: Request) -> dict[str, Any]:
        acting = await operator(request, directory, "viewer")
        return {"pins": await acting.replica_pins.all()}

    @router.put("/scaling/{model:path}", summary="Pin a model's replicas (operator)")
    async def pin(model: str, body: PinBody, request: Request) -> dict[str, Any]:
        """Holds until it is taken back. More than serving's FLOODGATE_REPLICAS_MAX are refused."""
        acting = await operator(request, directory, "operator")
        models = known_models()
        if model not in models:
            raise NotFound("model; GET /v1/models lists those that there are")
        most = models[model]
        if most is not None and body.replicas > most:
            raise RequestMalformed(
                f"The model may have {most} replicas at most. Raise FLOODGATE_REPLICAS_MAX and "
                "start serving again.",
                param="replicas",
            )
        await acting.replica_pins.set(model, body.replicas)
        return {"model": model, "replicas": body.replicas}

    @router.delete(
        "/scaling/{model:path}", status_code=204, summary="Leave it to its line again (operator)"
    )
    async def unpin(model: str, request: Request) -> None:
        acting = await operator(request, directory, "operator")
        await acting.replica_pins.set(model, None)
