"""GET /calls (those that live) and GET /calls/why: each call, told or not, recorded or why not.

POST /calls/{object,pause,resume,private,begin}: as one of us asks by a key of his phone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from pbxguard.core.facts import InCall
from pbxguard.service.view import ServiceView


class InCallRequest(BaseModel):
    """The body: which live call, and in whose name."""

    model_config = ConfigDict(extra="forbid", strict=True)
    call: str = Field(min_length=1, max_length=160)
    purposes: list[str] = Field(default=[], max_length=8)
    """To begin."""
    actor: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")


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

    @router.post("/calls/{what}")
    async def ask(what: InCall, wanted: InCallRequest) -> dict[str, Any]:
        await service.ask(wanted.call, what, wanted.actor, wanted.purposes)
        return {"call": wanted.call, "what": what.value}

    return router
