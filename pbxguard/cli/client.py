"""The command line's way to the running service: HTTP over its Unix socket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from pbxguard.core.errors import ConnectionFailed, PbxguardError, PeerMisbehaved

ANSWER_SECONDS = 10.0


class ServiceRefused(PbxguardError):
    """The service answered with an error: its own code, words, mend, and our exit code for it."""

    def __init__(self, code: str, message: str, mend: str) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = {"connection_failed": 3, "bad_request": 2, "wrong_use": 2}.get(code, 1)
        self._mend = mend

    def diagnostics(self) -> str:
        return self._mend


def ask(
    socket: Path, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None
) -> dict[str, Any]:
    """One request to the service. Raises ConnectionFailed when it is not there, ServiceRefused on its error."""
    transport = httpx.HTTPTransport(uds=str(socket))
    try:
        with httpx.Client(transport=transport, base_url="http://pbxguard", timeout=ANSWER_SECONDS) as client:
            answer = client.request(method, path, params=params, json=body)
    except httpx.TimeoutException as error:
        raise ConnectionFailed(
            "service", f"no answer in {ANSWER_SECONDS:g} s", "It is frozen or overloaded: look at its log."
        ) from error
    except httpx.TransportError as error:
        raise ConnectionFailed(
            "service",
            f"does not answer on {socket}",
            "Is it running (systemctl status pbxguard), and may you open its socket (group pbxguard)?",
        ) from error
    try:
        data = answer.json()
        if not isinstance(data, dict):
            raise ValueError("no object")
        if answer.is_error:
            told = data["error"]
            raise ServiceRefused(str(told["code"]), str(told["message"]), str(told["mend"]))
    except (ValueError, KeyError, TypeError) as error:
        raise PeerMisbehaved(f"the service answered {answer.status_code} in a shape of its own") from error
    return data
