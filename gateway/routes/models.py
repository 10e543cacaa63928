"""`GET /v1/models` and `GET /v1/models/{id}`: what a key may ask for now."""

import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from gateway.auth import Authenticator, Caller
from gateway.engines.capacity import Capacity
from gateway.engines.pools import Pool
from gateway.engines.routing import Routing
from gateway.errors import NotFound, Unavailable
from gateway.limits.plans import Plans


def build_router(
    authenticator: Authenticator, plans: Plans, routing: Routing, capacity: Capacity
) -> APIRouter:
    router = APIRouter(tags=["models"])

    async def caller(request: Request) -> Caller:
        found = await authenticator.authenticate(request.scope["headers"])
        request.scope["state"]["caller"] = found
        return found

    def card(name: str, asking: Caller) -> dict[str, Any]:
        """Raises ApiError where nothing serves what the name stands for to this account."""
        view = capacity.view
        pool = view.by_model.get(routing.target(name, asking.account_id, view))
        if pool is None or not plans.plan_for(asking.plan).allows(name):
            raise NotFound(
                f"The model '{name[:200]}' does not exist.", code="model_not_found", param="model"
            )
        return _card(name, pool)

    @router.get("/v1/models", summary="List the models")
    async def list_models(asking: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        """Those that the key's plan may use."""
        cards = []
        for name in sorted({*capacity.view.by_model, *routing.by_name}):
            with contextlib.suppress(NotFound, Unavailable):
                cards.append(card(name, asking))
        return JSONResponse({"object": "list", "data": cards})

    @router.get("/v1/models/{model:path}", summary="One model")
    async def get_model(model: str, asking: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        return JSONResponse(card(model, asking))

    return router


def _card(model: str, pool: Pool) -> dict[str, Any]:
    """OpenAI's model object; `max_model_len` as vLLM names the context length, in tokens."""
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "floodgate",
        "max_model_len": pool.context_tokens_max,
    }
