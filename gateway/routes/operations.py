"""`/healthz`, `/readyz` and `/metrics`, for whoever runs the service."""

import hmac
import ipaddress
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.connection.client_address import Network, is_forwarded
from gateway.errors import AuthenticationFailed
from gateway.readiness import Readiness
from gateway.telemetry import metrics


def build_router(
    readiness: Readiness, metrics_token: str, trusted_proxies: Sequence[Network]
) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether this worker lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Whether this worker can take requests into the line")
    async def readyz() -> JSONResponse:
        report: dict[str, Any] = readiness.report()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    @router.get("/metrics", summary="Prometheus metrics of all workers")
    async def read_metrics(request: Request) -> Response:
        if not _may_read_metrics(request, metrics_token, trusted_proxies):
            raise AuthenticationFailed(
                "Metrics are read from loopback, or with FLOODGATE_METRICS_TOKEN as bearer token.",
                code="metrics_forbidden",
            )
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _may_read_metrics(request: Request, token: str, trusted_proxies: Sequence[Network]) -> bool:
    if token:
        given = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {token}".encode())
    if not trusted_proxies and is_forwarded(request.scope["headers"]):
        return False  # an unknown proxy on this machine asks for a stranger
    try:
        return ipaddress.ip_address(request.scope["state"]["client_address"]).is_loopback
    except ValueError:
        return False
