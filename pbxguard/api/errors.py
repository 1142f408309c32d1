"""One shape for every error, and the only place that knows HTTP statuses: ``{error: {code, message, mend}}``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pbxguard.core.errors import (
    ActionRefused,
    ConnectionFailed,
    NotFound,
    PbxguardError,
    PeerMisbehaved,
    Protected,
    SettingsError,
    StorageFailed,
    UnsafeValue,
    WrongUse,
)
from pbxguard.logs import Event, get_logger

_STATUS: dict[type[PbxguardError], int] = {
    NotFound: 404,
    Protected: 409,
    UnsafeValue: 422,
    SettingsError: 422,
    WrongUse: 422,
    ActionRefused: 502,
    PeerMisbehaved: 502,
    ConnectionFailed: 503,
    StorageFailed: 503,
}
_CODES = {400: "bad_request", 404: "no_such_page", 405: "wrong_method"}

_log = get_logger()


def error_body(code: str, message: str, mend: str = "") -> dict[str, Any]:
    """The shape of every error."""
    return {"error": {"code": code, "message": message, "mend": mend}}


def install(app: FastAPI) -> None:
    """Make `app` answer every error in that shape."""

    async def ours(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PbxguardError)  # noqa: S101 registered for it
        status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), 500)
        return JSONResponse(error_body(error.code, str(error), error.diagnostics()), status)

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 registered for it
        # Places and messages only: the input may be a number.
        told = "; ".join(f"{'.'.join(str(p) for p in e['loc'][1:])}: {e['msg']}" for e in error.errors())
        return JSONResponse(error_body("bad_request", told), 422)

    async def http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 registered for it
        return JSONResponse(error_body(_CODES.get(error.status_code, "http"), str(error.detail)), error.status_code)

    async def bug(request: Request, error: Exception) -> JSONResponse:
        _log.error(Event.API_FAILED, route=request.scope.get("path", "")[:100], reason=type(error).__name__)
        return JSONResponse(error_body("internal", "an error of ours", "See the log line api.failed."), 500)

    app.add_exception_handler(PbxguardError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)
