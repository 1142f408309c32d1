"""POST /switch: pass every door by, or stop doing so."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from pbxguard.service.view import ServiceView


class Switch(BaseModel):
    """The body: ``{"on": true}``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    on: bool


def routes(service: ServiceView) -> APIRouter:
    """Its routes."""
    router = APIRouter()

    @router.post("/switch")
    async def switch(wanted: Switch) -> dict[str, Any]:
        await service.set_switch(wanted.on)
        return {"on": wanted.on}

    return router
