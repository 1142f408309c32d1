"""The application: a file for each noun, one shape for every error."""

from __future__ import annotations

from fastapi import FastAPI

from pbxguard.service.view import ServiceView

from . import calls, errors, status, switch


def create(service: ServiceView) -> FastAPI:
    """The HTTP application of a running service."""
    # No documentation pages: they would load scripts from elsewhere into an administrator's browser.
    app = FastAPI(title="pbxguard", docs_url=None, redoc_url=None)
    errors.install(app)
    for noun in (status, calls, switch):
        app.include_router(noun.routes(service))
    return app
