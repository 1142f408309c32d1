"""GET /status and GET /metrics: how the service is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from pbxguard.metrics import CONTENT_TYPE
from pbxguard.service.view import ServiceView


def routes(service: ServiceView) -> APIRouter:
    """Its routes."""
    router = APIRouter()

    @router.get("/status")
    async def status() -> dict[str, Any]:
        return dict(await service.status())

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics(), media_type=CONTENT_TYPE)

    return router
