"""`pbxguard stop-recorders` as systemd runs it: whatever AMI does, it ends by itself, and says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

CANNOT_REACH = 3
DEADLINE_S = 60.0
"""Far above its own bound: a run that takes so long does not end by itself."""
BANNER = b"Asterisk Call Manager/9.0.0\r\n"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the connection, and says nothing ever."""
    await reader.read()


async def mute_after_its_banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(BANNER)
    await reader.read()


async def mute_after_login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A frozen Asterisk whose socket's other end had just answered."""
    writer.write(BANNER)
    head = await reader.readuntil(b"\r\n\r\n")
    (action,) = [row.split(b": ")[1] for row in head.split(b"\r\n") if row.lower().startswith(b"actionid")]
    writer.write(b"Response: Success\r\nActionID: " + action + b"\r\nMessage: Authentication accepted\r\n\r\n")
    await reader.read()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Talks without end, and never as AMI does."""
    while True:
        writer.write(b"nonsense " * 1000)
        await writer.drain()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(BANNER)


@contextlib.asynccontextmanager
async def ami(peer: Peer) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await peer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def run(port: int, folder: Path, *more: str) -> tuple[int, str, str]:
    """Exit code, output and error output of one run."""
    config = folder / "pbxguard.toml"
    config.write_text(f'[ami]\nport = {port}\nsecret = "s3cret"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pbxguard", "--config", str(config), "stop-recorders", *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(), err.decode()


def check_told(code: int, out: str, err: str) -> None:
    assert code == CANNOT_REACH, err
    assert out == ""
    said, mend = err.splitlines()
    assert said.startswith("pbxguard: AMI: ")
    assert "Asterisk" in mend
    assert "s3cret" not in err


async def test_with_nobody_at_the_port_it_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        code, out, err = await run(taken.getsockname()[1], tmp_path)
    check_told(code, out, err)
    assert "cannot connect (ECONNREFUSED)" in err


async def test_whoever_answers_there_it_ends_by_itself(tmp_path: Path) -> None:
    """All at once: each takes the whole of the time that it is given."""

    async def one(peer: Peer) -> tuple[int, str, str]:
        folder = tmp_path / peer.__name__
        folder.mkdir()
        async with ami(peer) as port:
            return await run(port, folder)

    for ran in await asyncio.gather(*map(one, (silent, mute_after_its_banner, mute_after_login, endless, hangs_up))):
        check_told(*ran)


async def test_a_listener_that_takes_no_connection_is_given_up(tmp_path: Path) -> None:
    """Its queue is full, as a frozen Asterisk's is after a while: the kernel answers nothing."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(full.getsockname())
        check_told(*await run(full.getsockname()[1], tmp_path))


async def test_a_program_is_told_the_same(tmp_path: Path) -> None:
    async with ami(hangs_up) as port:
        code, out, _ = await run(port, tmp_path, "--json")
    assert code == CANNOT_REACH
    assert json.loads(out)["error"]
