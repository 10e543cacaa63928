"""`GET /v1/models` and `GET /v1/models/{id}`: what a key may ask for now."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from gateway.auth import Authenticator, Caller
from gateway.capacity import Capacity
from gateway.errors import NotFound
from gateway.plans import Plans
from gateway.pools import Pool


def build_router(authenticator: Authenticator, plans: Plans, capacity: Capacity) -> APIRouter:
    router = APIRouter(tags=["models"])

    async def caller(request: Request) -> Caller:
        found = await authenticator.authenticate(request.scope["headers"])
        request.scope["state"]["caller"] = found
        return found

    @router.get("/v1/models", summary="List the models")
    async def list_models(asking: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        """Those that the key's plan may use."""
        plan, view = plans.plan_for(asking.plan), capacity.view.by_model
        cards = [_card(name, view[name]) for name in sorted(view) if plan.allows(name)]
        return JSONResponse({"object": "list", "data": cards})

    @router.get("/v1/models/{model:path}", summary="One model")
    async def get_model(model: str, asking: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        pool = capacity.view.by_model.get(model)
        if pool is None or not plans.plan_for(asking.plan).allows(model):
            raise NotFound(
                f"The model '{model[:200]}' does not exist.", code="model_not_found", param="model"
            )
        return JSONResponse(_card(model, pool))

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
