"""Callers of a gateway process, and the line as they see it."""

import asyncio

import httpx

from tests.gateway_process import GatewayProcess


def caller(gateway: GatewayProcess, api_key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=55
    )


async def until_waiting(client: httpx.AsyncClient, count: int) -> dict[str, object]:
    """The account's view of the line, once so many of its requests wait."""
    while True:
        view = (await client.get("/v1/queue")).json()["models"]
        if sum(len(model["waiting"]) for model in view) == count:
            return dict(view[0])
        await asyncio.sleep(0.02)
