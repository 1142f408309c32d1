"""The API, over a real Unix socket: one shape for every error, a socket for owner and group only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from pbxguard.api.application import create
from pbxguard.api.server import serve
from pbxguard.core.errors import ActionRefused, ConnectionFailed, NotFound, StorageFailed
from pbxguard.service.calls import CallView
from tests.unit.service_view import ScriptedService, Unforeseen

VIEW = CallView(
    "17.1",
    datetime(2026, 5, 4, 12, 0, tzinfo=UTC),
    False,
    "inbound",
    "+31612345678",
    "31201234100",
    "PJSIP/100",
    "",
    "",
    ("contract_evidence",),
    False,
    False,
    ("not_told",),
)


@contextlib.asynccontextmanager
async def serving(service: ScriptedService, path: Path) -> AsyncIterator[httpx.AsyncClient]:
    task = asyncio.create_task(serve(create(service), path))
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://pbxguard") as client:
        try:
            async with asyncio.timeout(10):
                while True:
                    if task.done():
                        await task
                    with contextlib.suppress(httpx.TransportError):
                        await client.get("/metrics")
                        break
                    await asyncio.sleep(0.01)
            yield client
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def mode_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "pbxguard.sock"


async def test_it_answers_what_the_service_knows(path: Path) -> None:
    service = ScriptedService(VIEW)
    async with serving(service, path) as client:
        assert (await client.get("/status")).json()["node"] == "pbx1"
        [call] = (await client.get("/calls")).json()["calls"]
        assert CallView.from_json(call) == VIEW
        assert call["why"]["nl"] == "de andere kant heeft de melding niet volledig gehoord"
        answer = await client.get("/calls/why", params={"who": "100", "since": "2026-05-04T11:00:00+00:00"})
        assert len(answer.json()["calls"]) == 1
        assert service.asked == [("100", datetime(2026, 5, 4, 11, tzinfo=UTC))]
        assert "pbxguard_beat_lag_seconds" in (await client.get("/metrics")).text


async def test_the_switch_turns_both_ways(path: Path) -> None:
    service = ScriptedService()
    async with serving(service, path) as client:
        assert (await client.post("/switch", json={"on": False})).json() == {"on": False}
        assert not service.on
        await client.post("/switch", json={"on": True})
        assert service.on


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("no such call"), 404, "not_found"),
        (ActionRefused("Error"), 502, "action_refused"),
        (ConnectionFailed("AMI", "gone", "Look at manager.conf."), 503, "connection_failed"),
        (StorageFailed("disk"), 503, "storage_failed"),
        (Unforeseen("x"), 500, "unforeseen"),
        (ZeroDivisionError("secret detail"), 500, "internal"),
    ],
)
async def test_every_error_has_the_same_shape(error: Exception, status: int, code: str, path: Path) -> None:
    service = ScriptedService()
    service.fails = error
    async with serving(service, path) as client:
        answer = await client.get("/status")
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        told = answer.json()["error"]
        assert set(told) == {"code", "message", "mend"}
        assert told["code"] == code
        assert "secret detail" not in answer.text


@pytest.mark.parametrize(
    ("method", "url", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("DELETE", "/status", None, 405),
        ("POST", "/switch", {"on": "maybe"}, 422),
        ("POST", "/switch", {"on": True, "off": True}, 422),
        ("GET", "/calls/why?since=yesterday", None, 422),
        ("GET", "/calls/why?who=" + "1" * 100, None, 422),
    ],
)
async def test_wrong_use_has_that_shape_too(
    method: str, url: str, body: dict[str, object] | None, status: int, path: Path
) -> None:
    async with serving(ScriptedService(), path) as client:
        answer = await client.request(method, url, json=body)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"code", "message", "mend"}
        assert "111111" not in answer.text


async def test_the_socket_is_for_owner_and_group_and_goes_with_the_service(path: Path) -> None:
    async with serving(ScriptedService(), path):
        assert mode_of(path) == 0o660
    assert mode_of(path) is None


async def test_a_dead_service_s_socket_is_taken_over_and_a_living_one_s_is_not(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(ScriptedService(), path) as client:
        with pytest.raises(ConnectionFailed, match="another pbxguard"):
            await serve(create(ScriptedService()), path)
        assert (await client.get("/status")).status_code == 200


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(ConnectionFailed, match="something else"):
        asyncio.run(serve(create(ScriptedService()), path))
    assert path.read_text() == "mine"
