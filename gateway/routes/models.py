"""`GET /v1/models` and `GET /v1/models/{id}`: what a key may ask for now."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from gateway.auth import Authenticator, Caller
from gateway.capacity import Capacity
from gateway.errors import NotFound
from gateway.pools import Pool


def build_router(authenticator: Authenticator, capacity: Capacity) -> APIRouter:
    router = APIRouter(tags=["models"])

    async def caller(request: Request) -> Caller:
        found = await authenticator.authenticate(request.scope["headers"])
        request.scope["state"]["caller"] = found
        return found

    @router.get("/v1/models", summary="List the models")
    async def list_models(_: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        view = capacity.view.by_model
        return JSONResponse(
            {"object": "list", "data": [_card(name, view[name]) for name in sorted(view)]}
        )

    @router.get("/v1/models/{model:path}", summary="One model")
    async def get_model(model: str, _: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        pool = capacity.view.by_model.get(model)
        if pool is None:
            raise NotFound(
                f"The model '{model[:200]}' does not exist.", code="model_not_found", param="model"
            )
        return JSONResponse(_card(model, pool))

    return router


def _card(model: str, pool: Pool) -> dict[str, Any]:
    """OpenAI's model object; `max_model_len` as vLLM names the context length, in tokens."""
    lengths = [r.context_tokens_max for r in pool.replicas if r.context_tokens_max]
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "floodgate",
        "max_model_len": min(lengths) if lengths else None,
    }
