"""GET /calls (those that live) and GET /calls/why: each call, told or not, recorded or why not."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from pbxguard.service.view import ServiceView


def routes(service: ServiceView) -> APIRouter:
    """Its routes."""
    router = APIRouter()

    @router.get("/calls")
    async def calls() -> dict[str, Any]:
        return {"calls": [view.as_json() for view in await service.live_calls()]}

    @router.get("/calls/why")
    async def why(
        who: Annotated[str, Query(max_length=64)] = "", since: Annotated[AwareDatetime | None, Query()] = None
    ) -> dict[str, Any]:
        moment: datetime | None = since
        return {"calls": [view.as_json() for view in await service.why(who, moment)]}

    return router
