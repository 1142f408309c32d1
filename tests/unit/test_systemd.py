"""What systemd is told, on a real datagram socket; and that nobody who does not read holds anything up."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from pbxguard.systemd import Systemd


@pytest.fixture
def supervisor(tmp_path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(str(tmp_path / "notify"))
    bound.settimeout(5)
    return bound


def told(supervisor: socket.socket) -> str:
    return supervisor.recv(4096).decode()


def environment(supervisor: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(supervisor.getsockname()), **more}


def test_ready_reload_stop_and_status_are_told_in_systemds_words(supervisor: socket.socket) -> None:
    systemd = Systemd(environment(supervisor))
    systemd.ready()
    assert told(supervisor) == "READY=1"
    systemd.reloading()
    first, second = told(supervisor).split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()
    systemd.stopping()
    assert told(supervisor) == "STOPPING=1"
    systemd.status("3 calls,\nREADY=1")
    assert told(supervisor) == "STATUS=3 calls, READY=1"
    systemd.status("3 calls,\nREADY=1")
    systemd.ready()
    assert told(supervisor) == "READY=1", "an unchanged status is told once"


def test_an_abstract_socket_is_found_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind("\0pbxguard-test-notify")
        bound.settimeout(5)
        Systemd({"NOTIFY_SOCKET": "@pbxguard-test-notify"}).ready()
        assert told(bound) == "READY=1"


async def test_signs_of_life_come_only_while_it_moves(supervisor: socket.socket) -> None:
    systemd = Systemd(environment(supervisor, WATCHDOG_USEC="50000"))
    assert systemd.watchdog_s == 0.05
    supervisor.setblocking(False)
    asked = 0

    def moves() -> bool:
        nonlocal asked
        asked += 1
        return asked <= 3

    living = asyncio.create_task(systemd.keep_alive(moves))
    async with asyncio.timeout(5):
        while asked < 6:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)
    living.cancel()
    assert [told(supervisor) for _ in range(3)] == ["WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        told(supervisor)


async def test_a_watchdog_that_is_meant_for_another_process_is_none_of_ours(supervisor: socket.socket) -> None:
    systemd = Systemd(environment(supervisor, WATCHDOG_USEC="50000", WATCHDOG_PID="1"))
    assert systemd.watchdog_s is None
    await systemd.keep_alive(lambda: True)  # returns at once


def test_a_supervisor_that_does_not_read_holds_nothing_up(supervisor: socket.socket) -> None:
    systemd = Systemd(environment(supervisor))
    for _ in range(5000):
        systemd.ready()
    supervisor.close()
    systemd.ready()


def test_without_a_supervisor_nothing_is_sent() -> None:
    systemd = Systemd({})
    systemd.ready()
    assert systemd.watchdog_s is None
